/**
 * How a guest is slowed while a background snapshot saves its memory: a vCPU that writes a page waits in
 * the kernel until QEMU has saved it. QEMU does not count that, so it is looked at, many times a second:
 *
 *     vCPU 0   runs runs WAITS runs │ WAITS runs …      /proc/PID/task/TID/wchan: handle_userfault
 *     vCPU 1   runs runs runs  runs │ runs  runs …
 *
 *     share that waits = waiting looks ÷ looks, over all vCPUs
 *
 * Nothing is said where the kernel does not let us look (ptrace(2), PTRACE_MODE_READ).
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import type { QmpClient } from '../../../qmp/index.ts';
import type { KnownProcess } from '../../host/known-process.ts';

const LOOK_MS = 5;
const WAITS_IN = 'handle_userfault';

export class GuestWaits {
  readonly #paths: readonly string[];
  #timer: NodeJS.Timeout | undefined;
  #looks = 0;
  #waiting = 0;

  /** @returns undefined where one cannot look */
  static async of(qmp: QmpClient, vm: KnownProcess | undefined): Promise<GuestWaits | undefined> {
    if (vm === undefined || !mayLook(vm.pid)) return undefined;
    const cpus = await qmp.execute('query-cpus-fast');
    // Emulated single-threaded, several vCPUs share one thread.
    const threads = new Set(cpus.map((cpu) => cpu['thread-id']));
    return new GuestWaits([...threads].map((thread) => wchanOf(vm.pid, thread)));
  }

  private constructor(paths: readonly string[]) {
    this.#paths = paths;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
  }

  /** Idempotent. @returns the share of its time that a vCPU waited; undefined without a look */
  end(): number | undefined {
    clearInterval(this.#timer);
    return this.#looks === 0 ? undefined : this.#waiting / this.#looks;
  }

  #look(): void {
    for (const path of this.#paths) {
      try {
        if (readFileSync(path, 'utf8') === WAITS_IN) this.#waiting++;
        this.#looks++;
      } catch {
        // the vCPU was unplugged, or its VM is gone
      }
    }
  }
}

function wchanOf(pid: number, thread: number): string {
  return `/proc/${pid}/task/${thread}/wchan`;
}

/** The kernel shows `0` to whom it does not let look; its maps it does not open to them at all. */
function mayLook(pid: number): boolean {
  try {
    accessSync(wchanOf(pid, pid), constants.R_OK);
    readFileSync(`/proc/${pid}/maps`);
    return true;
  } catch {
    return false;
  }
}
