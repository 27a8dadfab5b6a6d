/**
 * Measures the memory that rounds take, by the kernel's counts and not by ours: the blocks of the
 * store's files (statfs of a tmpfs of its own, where we may mount one), and the growth of the
 * proxies' resident memory (VmHWM).
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import type { Testbed } from '../testbed/testbed.ts';

const SAMPLE_MS = 10;

export class MemoryWatch {
  readonly directory: string;
  #peak = 0;
  #timer: NodeJS.Timeout | undefined;
  #resident = new Map<number, number>();

  /** Mounts a tmpfs for the store. @throws Error where that is not allowed */
  constructor(sizeBytes: number) {
    this.directory = mkdtempSync('/dev/shm/umbra-store-');
    const options = ['-t', 'tmpfs', '-o', `size=${sizeBytes},mode=0700`];
    execFileSync('mount', [...options, 'umbra-bench', this.directory]);
    process.once('exit', this.#onExit);
  }

  readonly #onExit = () => this.dispose();

  start(bed: Testbed): void {
    this.#peak = 0;
    this.#resident = proxiesOf(bed);
    this.#timer = setInterval(() => this.#look(), SAMPLE_MS);
  }

  /** Returns, in bytes, the store's peak and the sum of the proxies' growth at their peaks. */
  stop(bed: Testbed): number {
    clearInterval(this.#timer);
    this.#look();
    let grown = 0;
    for (const pid of proxiesOf(bed).keys()) {
      const before = this.#resident.get(pid);
      if (before !== undefined) grown += Math.max(0, memoryOf(pid, 'VmHWM') - before);
    }
    return this.#peak + grown;
  }

  dispose(): void {
    clearInterval(this.#timer);
    process.off('exit', this.#onExit);
    execFileSync('umount', ['-l', this.directory]);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #look(): void {
    const { blocks, bfree, bsize } = statfsSync(this.directory);
    this.#peak = Math.max(this.#peak, (blocks - bfree) * bsize);
  }
}

/** Returns the largest peak of any proxy's resident memory since its start, bytes. */
export function peakResident(bed: Testbed): number {
  return Math.max(...[...proxiesOf(bed).keys()].map((pid) => memoryOf(pid, 'VmHWM')));
}

function proxiesOf(bed: Testbed): Map<number, number> {
  const proxies = [...bed.processes()].filter(([, command]) => /member\/process/.test(command));
  return new Map(proxies.map(([pid]) => [pid, memoryOf(pid, 'VmRSS')]));
}

/** Returns a field of /proc/PID/status in bytes; 0 if the process has ended. */
function memoryOf(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
