/**
 * Makes one system call in another process (ptrace(2)): for what only a process itself can ask of
 * the kernel, such as a userfaultfd of its own memory.
 *
 *     SEIZE, INTERRUPT ─▶ its main thread leaves its wait, and is let go
 *     it enters the kernel again ─▶ is that a wait? ─ no ─▶ let go, up to CALLS_MAX times
 *           │ yes: the call is exchanged for ours
 *     it leaves the kernel with our result ─▶ the wait is put back, and begins anew
 *     DETACH
 *
 * Nothing is written into the process but registers, and those only while it is on its way into a
 * wait (poll(2) and its like). If this process dies in the middle, the kernel lets the thread go,
 * and its wait seems to have ended early: callers of poll must expect that. The thread is held for
 * some 100 µs.
 *
 * x86-64 only: registers have other names elsewhere.
 */
import { arch } from 'node:os';
import { isAlive, type KnownProcess } from './known-process.ts';
import { EPERM, lastErrno, ptrace, ptraceRegisters, stateOfTraced } from './libc.ts';

// <sys/ptrace.h>
const GETREGS = 12;
const SETREGS = 13;
const DETACH = 17;
const SYSCALL = 24;
const SEIZE = 0x4206;
const INTERRUPT = 0x4207;
const TRACESYSGOOD = 1;

/** Signal of a stop at a system call, with TRACESYSGOOD: SIGTRAP | 0x80. */
const AT_SYSCALL = 0x85;
const SIGTRAP = 5;
/** Low byte of the status of a thread that has stopped; 0, or a signal, of one that has ended. */
const STOPPED = 0x7f;

// Places in struct user_regs_struct (<sys/user.h>).
const REGISTERS = 27;
const RAX = 10;
const RDI = 14;
const ORIG_RAX = 15;
const RIP = 16;
/** Bytes of the instruction `syscall`. */
const INSTRUCTION_BYTES = 2n;

/** Waits of a main loop, by number: poll, epoll_wait, ppoll, epoll_pwait, epoll_pwait2. */
const WAITS: ReadonlySet<bigint> = new Set([7n, 232n, 271n, 281n, 441n]);
/** The most ways in and out of other calls that are let go before it is given up. */
const CALLS_MAX = 40_000;
const SPIN_MS = 0.05;
/** The result that a call has while it is entered (<asm-generic/errno.h>). */
const ENOSYS = 38n;

/** Returns why no call can be made in any process here; undefined if it can. */
export function injectionObstacle(): string | undefined {
  return arch() === 'x64'
    ? undefined
    : `a system call can be made in QEMU on x86-64, not ${arch()}`;
}

/**
 * Makes a system call with one argument in the main thread of a process. Takes the right to trace
 * it (ptrace(2), PTRACE_MODE_ATTACH).
 * @param limitMs the longest that the thread is waited for
 * @param onExchanged called while our call stands in for the thread's, for tests
 * @returns the result of the call, negative for an error: -errno
 * @throws Error if the process may not be traced, has ended, or does not come to a wait in time
 */
export function callIn(
  target: KnownProcess,
  number: number,
  argument: bigint,
  limitMs: number,
  onExchanged = () => {},
): number {
  const { pid } = target;
  const obstacle = injectionObstacle();
  if (obstacle !== undefined) throw new Error(obstacle);
  demand(ptrace(SEIZE, pid, TRACESYSGOOD), pid, 'PTRACE_SEIZE');
  try {
    if (!isAlive(target)) throw new Error(`process ${pid} is gone`);
    const thread = new Thread(pid, performance.now() + limitMs);
    return exchange(thread, number, argument, onExchanged);
  } finally {
    detach(pid);
  }
}

function exchange(
  thread: Thread,
  number: number,
  argument: bigint,
  onExchanged: () => void,
): number {
  thread.interrupt();
  for (let call = 0; call < CALLS_MAX; call++) {
    thread.toSyscall();
    const entered = thread.registers();
    const enters = BigInt.asIntN(64, entered[RAX] ?? 0n) === -ENOSYS;
    if (!enters || !WAITS.has(entered[ORIG_RAX] ?? 0n)) continue;
    const ours = entered.slice();
    ours[ORIG_RAX] = BigInt(number);
    ours[RDI] = argument;
    thread.setRegisters(ours);
    onExchanged();
    thread.toSyscall();
    const result = BigInt.asIntN(64, thread.registers()[RAX] ?? 0n);
    thread.setRegisters(again(entered));
    return Number(result);
  }
  throw new Error(`process ${thread.id} did not come to a wait: it made other calls`);
}

/** Returns the registers with which a call that was entered is made once more. */
function again(entered: BigUint64Array): BigUint64Array {
  const registers = entered.slice();
  registers[RAX] = entered[ORIG_RAX] ?? 0n;
  registers[RIP] = (entered[RIP] ?? 0n) - INSTRUCTION_BYTES;
  registers[ORIG_RAX] = 2n ** 64n - 1n; // the kernel has no call to restart
  return registers;
}

/** A thread that is traced. */
class Thread {
  readonly id: number;
  readonly #endMs: number;
  readonly #clock = new Int32Array(new SharedArrayBuffer(4));

  /** @param endMs the time after which it is not waited for, by performance.now() */
  constructor(id: number, endMs: number) {
    this.id = id;
    this.#endMs = endMs;
  }

  /** Stops it, wherever it is. */
  interrupt(): void {
    demand(ptrace(INTERRUPT, this.id, 0), this.id, 'PTRACE_INTERRUPT');
    this.#untilStopped();
  }

  /** Lets it go to where it enters or leaves the kernel next. */
  toSyscall(): void {
    for (let signal = 0; ; ) {
      demand(ptrace(SYSCALL, this.id, signal), this.id, 'PTRACE_SYSCALL');
      const { by, isEvent } = this.#untilStopped();
      if (by === AT_SYSCALL) return;
      // A signal meant for the process is delivered; a stop of the tracer's own is none.
      signal = isEvent || by === SIGTRAP ? 0 : by;
    }
  }

  registers(): BigUint64Array {
    const registers = new BigUint64Array(REGISTERS);
    demand(ptraceRegisters(GETREGS, this.id, registers), this.id, 'PTRACE_GETREGS');
    return registers;
  }

  setRegisters(registers: BigUint64Array): void {
    demand(ptraceRegisters(SETREGS, this.id, registers), this.id, 'PTRACE_SETREGS');
  }

  #untilStopped(): { readonly by: number; readonly isEvent: boolean } {
    for (;;) {
      const status = stateOfTraced(this.id);
      if (status !== undefined) {
        if ((status & 0xff) !== STOPPED) throw new Error(`process ${this.id} has ended`);
        return { by: (status >> 8) & 0xff, isEvent: status >> 16 !== 0 };
      }
      if (performance.now() > this.#endMs) {
        throw new Error(`process ${this.id} does not come to a wait of its main loop`);
      }
      Atomics.wait(this.#clock, 0, 0, SPIN_MS);
    }
  }
}

/** Lets the thread go. One that runs must be stopped for that. */
function detach(pid: number): void {
  if (ptrace(DETACH, pid, 0) === 0) return;
  ptrace(INTERRUPT, pid, 0);
  const clock = new Int32Array(new SharedArrayBuffer(4));
  try {
    for (const end = performance.now() + 1000; performance.now() < end; ) {
      if (stateOfTraced(pid) !== undefined && ptrace(DETACH, pid, 0) === 0) return;
      Atomics.wait(clock, 0, 0, SPIN_MS);
    }
  } catch {
    // It has ended.
  }
}

function demand(result: number, pid: number, call: string): void {
  if (result >= 0) return;
  const errno = lastErrno();
  const why = errno === EPERM ? 'not allowed (it takes the right to trace it)' : `errno ${errno}`;
  throw new Error(`${call} of QEMU (process ${pid}): ${why}`);
}
