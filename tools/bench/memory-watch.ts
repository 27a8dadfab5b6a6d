/**
 * How much memory rounds really take, by the kernel's accounts and not by ours: blocks of the store's
 * files (on a tmpfs of its own, where one may be mounted, its statfs), and the growth of the proxies'
 * resident memory (VmHWM).
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

  /** @returns bytes: the store's peak, and what proxies took at their peaks beyond their start */
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

/** The most that any one proxy has had resident since it was started, bytes. */
export function peakResident(bed: Testbed): number {
  return Math.max(...[...proxiesOf(bed).keys()].map((pid) => memoryOf(pid, 'VmHWM')));
}

function proxiesOf(bed: Testbed): Map<number, number> {
  const proxies = [...bed.processes()].filter(([, command]) => /member\/process/.test(command));
  return new Map(proxies.map(([pid]) => [pid, memoryOf(pid, 'VmRSS')]));
}

/** Bytes, from /proc/PID/status; 0 if the process is gone. */
function memoryOf(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
