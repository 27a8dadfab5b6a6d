/**
 * Measures how a guest is slowed while a background snapshot saves its memory: a vCPU that writes a
 * page waits in the kernel until QEMU has saved it. QEMU does not count that, so vCPUs are sampled:
 *
 *     vCPU 0   runs runs WAITS runs │ WAITS runs …      /proc/PID/task/TID/wchan: handle_userfault
 *     vCPU 1   runs runs runs  runs │ runs  runs …
 *
 *     share that waits = waiting samples ÷ samples, over all vCPUs
 *
 * There is no figure where the kernel does not let us read (ptrace(2), PTRACE_MODE_READ).
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import type { QmpClient } from '../../../qmp/index.ts';
import type { KnownProcess } from '../../host/known-process.ts';

const SAMPLE_MS = 5;
const WAITS_IN = 'handle_userfault';

export class GuestWaits {
  readonly #paths: readonly string[];
  #timer: NodeJS.Timeout | undefined;
  #samples = 0;
  #waiting = 0;

  /** Makes ready to sample. @returns undefined where the kernel does not allow it */
  static async of(qmp: QmpClient, vm: KnownProcess | undefined): Promise<GuestWaits | undefined> {
    if (vm === undefined || !mayRead(vm.pid)) return undefined;
    const cpus = await qmp.execute('query-cpus-fast');
    // Emulated single-threaded, several vCPUs share one thread.
    const threads = new Set(cpus.map((cpu) => cpu['thread-id']));
    return new GuestWaits([...threads].map((thread) => wchanOf(vm.pid, thread)));
  }

  private constructor(paths: readonly string[]) {
    this.#paths = paths;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#sample(), SAMPLE_MS);
  }

  /**
   * Ends sampling. Idempotent.
   * @returns the share of its time that a vCPU waited; undefined without a sample
   */
  end(): number | undefined {
    clearInterval(this.#timer);
    return this.#samples === 0 ? undefined : this.#waiting / this.#samples;
  }

  #sample(): void {
    for (const path of this.#paths) {
      try {
        if (readFileSync(path, 'utf8') === WAITS_IN) this.#waiting++;
        this.#samples++;
      } catch {
        // the vCPU was unplugged, or its VM is gone
      }
    }
  }
}

function wchanOf(pid: number, thread: number): string {
  return `/proc/${pid}/task/${thread}/wchan`;
}

/**
 * Returns true if wchan can be trusted. A process that may not read it sees `0`; but it cannot open
 * the maps at all.
 */
function mayRead(pid: number): boolean {
  try {
    accessSync(wchanOf(pid, pid), constants.R_OK);
    readFileSync(`/proc/${pid}/maps`);
    return true;
  } catch {
    return false;
  }
}
