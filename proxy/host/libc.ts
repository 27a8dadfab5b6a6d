/**
 * Calls of the C library for which Node has no function. Every room of proxy that needs one takes
 * it from here.
 *
 * The library is loaded by the first call, so that a program which imports this file and calls
 * nothing starts as fast as without it.
 */
import { readSync } from 'node:fs';
import { arch } from 'node:os';
import koffi from 'koffi';

// <sys/file.h>
const LOCK_EX = 2;
const LOCK_NB = 4;
/** The ioctl that counts the bytes in a pipe (<asm-generic/ioctls.h>). */
const FIONREAD = 0x541b;
// <linux/ioprio.h>
const IOPRIO_WHO_PROCESS = 1;
const IOPRIO_CLASS_IDLE = 3 << 13;
// <asm/unistd.h>. glibc has a function for pidfd_open and pidfd_getfd since 2.36 only, and none for
// the others. The numbers from 424 on are the same on every architecture.
const SYS_IOPRIO_SET: Readonly<Record<string, number>> = { x64: 251, arm64: 30 };
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;
const SYS_PROCESS_MADVISE = 440;
const SYS_PTRACE = 101;

// <sys/wait.h>
const WNOHANG = 1;
const WALL = 0x40000000;

// <sys/socket.h>, x86-64: struct msghdr has 7 words, struct cmsghdr one and two halves.
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

// <sys/inotify.h>
const IN_NONBLOCK = 0x800;
const IN_CLOEXEC = 0x80000;
const IN_CLOSE_NOWRITE = 0x10;
const IN_OPEN = 0x20;
/** Bytes of an event without a name: the watch, its mask, two more numbers. */
const EVENT_BYTES = 16;

/** The error number that means "operation not permitted" (errno(3)). */
export const EPERM = 1;

interface Libc {
  readonly flock: (fd: number, operation: number) => number;
  readonly ioctl: (fd: number, request: number, argument: ArrayBufferView) => number;
  readonly inotifyInit: (flags: number) => number;
  readonly inotifyAddWatch: (fd: number, path: string, mask: number) => number;
  readonly syscall: (number: number, a: number, b: number, c: number) => number | bigint;
  readonly ptrace: (
    number: number,
    request: number,
    thread: number,
    address: number,
    data: number,
  ) => number | bigint;
  readonly ptraceRegisters: (
    number: number,
    request: number,
    thread: number,
    address: number,
    registers: BigUint64Array,
  ) => number | bigint;
  readonly waitpid: (thread: number, status: Int32Array, options: number) => number;
  readonly sendmsg: (socket: number, message: BigUint64Array, flags: number) => number | bigint;
  readonly processReadv: (
    pid: number,
    local: BigUint64Array,
    localCount: number,
    remote: ArrayBufferView,
    remoteCount: number,
    flags: number,
  ) => number | bigint;
  readonly processMadvise: (
    number: number,
    pidfd: number,
    ranges: BigUint64Array,
    count: number,
    advice: number,
    flags: number,
  ) => number | bigint;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const library = koffi.load('libc.so.6');
  loaded = {
    flock: library.func('int flock(int fd, int operation)'),
    ioctl: library.func('int ioctl(int fd, unsigned long request, void *argument)'),
    inotifyInit: library.func('int inotify_init1(int flags)'),
    inotifyAddWatch: library.func('int inotify_add_watch(int fd, const char *path, uint32_t mask)'),
    syscall: library.func('long syscall(long number, long a, long b, long c)'),
    ptrace: library.func('long syscall(long number, long request, long tid, long at, long data)'),
    ptraceRegisters: library.func(
      'long syscall(long number, long request, long tid, long at, uint64_t *registers)',
    ),
    waitpid: library.func('int waitpid(int tid, int *status, int options)'),
    sendmsg: library.func('long sendmsg(int socket, uint64_t *message, int flags)'),
    processReadv: library.func(
      'long process_vm_readv(int pid, uint64_t *local, unsigned long locals, ' +
        'void *remote, unsigned long remotes, unsigned long flags)',
    ),
    processMadvise: library.func(
      'long syscall(long number, long pidfd, uint64_t *ranges, long count, long advice, long zero)',
    ),
  };
  return loaded;
}

/** Returns the error number of the last call of this file that failed (errno(3)). */
export function lastErrno(): number {
  return koffi.errno();
}

/** Returns where the bytes of an array are, for structures that point to it. */
export function addressOf(bytes: ArrayBufferView): bigint {
  return BigInt(koffi.address(bytes));
}

/**
 * Takes the exclusive lock of an open file (flock(2)). The lock lasts until the file is closed.
 * @returns false if another open file has the lock
 */
export function tryLock(fd: number): boolean {
  return libc().flock(fd, LOCK_EX | LOCK_NB) === 0;
}

/** Returns the bytes that were written to a pipe and have not been read yet. */
export function unreadBytes(pipe: number): number {
  const count = new Int32Array(1);
  libc().ioctl(pipe, FIONREAD, count);
  return count[0] ?? 0;
}

/**
 * Watches a file for being opened (inotify(7)). The caller closes the descriptor.
 * @returns a descriptor for `opensSince`
 * @throws Error if the file cannot be watched
 */
export function watchOpens(path: string): number {
  const fd = libc().inotifyInit(IN_NONBLOCK | IN_CLOEXEC);
  // The kernel makes one event of two alike: what is closed between two opens keeps them apart.
  const mask = IN_OPEN | IN_CLOSE_NOWRITE;
  if (fd >= 0 && libc().inotifyAddWatch(fd, path, mask) >= 0) return fd;
  throw new Error(`${path} cannot be watched (inotify, error ${lastErrno()})`);
}

/** Returns how often the file was opened since the last call. Never waits. */
export function opensSince(fd: number): number {
  const events = new Uint32Array((64 * EVENT_BYTES) / 4);
  let bytes = 0;
  try {
    bytes = readSync(fd, events);
  } catch {
    return 0; // there is no event (EAGAIN)
  }
  let opens = 0;
  for (let at = 1; at * 4 < bytes; at += EVENT_BYTES / 4) {
    if (((events[at] ?? 0) & IN_OPEN) !== 0) opens += 1;
  }
  return opens;
}

/**
 * Calls ioctl(2) with a pointer to a structure, which the kernel reads and may change.
 * @returns -1 if it failed: see `lastErrno`
 */
export function ioctl(fd: number, request: number, structure: BigUint64Array): number {
  return libc().ioctl(fd, request, structure);
}

/** Puts a thread into the I/O class "idle" (ioprio_set(2)), where this architecture is known. */
export function setIdleIo(thread: number): void {
  const number = SYS_IOPRIO_SET[arch()];
  if (number !== undefined) libc().syscall(number, IOPRIO_WHO_PROCESS, thread, IOPRIO_CLASS_IDLE);
}

/**
 * Opens a descriptor of a process (pidfd_open(2)). The caller closes it.
 * @returns -1 if it failed: see `lastErrno`
 */
export function pidfdOpen(pid: number): number {
  return Number(libc().syscall(SYS_PIDFD_OPEN, pid, 0, 0));
}

/**
 * Duplicates descriptor `fd` of another process into this one (pidfd_getfd(2)). The caller closes
 * it.
 * @returns -1 if it failed: see `lastErrno`
 */
export function pidfdGetfd(pidfd: number, fd: number): number {
  return Number(libc().syscall(SYS_PIDFD_GETFD, pidfd, fd, 0));
}

/**
 * Copies memory of another process (process_vm_readv(2)): twice as fast as /proc/PID/mem.
 * @returns the bytes copied; -1 if it failed: see `lastErrno`
 */
export function processReadv(pid: number, address: bigint, into: Uint8Array): number {
  const length = BigInt(into.length);
  const local = new BigUint64Array([addressOf(into), length]);
  const remote = new BigUint64Array([address, length]);
  return Number(libc().processReadv(pid, local, 1, remote, 1, 0));
}

/**
 * Gives the kernel advice on memory of another process (process_madvise(2)).
 * @param ranges pairs of address and length, bytes
 * @returns the bytes advised; -1 if it failed: see `lastErrno`
 */
export function processMadvise(pidfd: number, ranges: BigUint64Array, advice: number): number {
  const count = ranges.length / 2;
  return Number(libc().processMadvise(SYS_PROCESS_MADVISE, pidfd, ranges, count, advice, 0));
}

/**
 * Copies ranges of memory of another process, one after the other (process_vm_readv(2)).
 * @param ranges pairs of address and length, u64 each; 1,024 at most
 * @returns the bytes copied; -1 if it failed: see `lastErrno`
 */
export function processReadRanges(
  pid: number,
  ranges: ArrayBufferView,
  count: number,
  into: Uint8Array,
): number {
  const local = new BigUint64Array([addressOf(into), BigInt(into.length)]);
  return Number(libc().processReadv(pid, local, 1, ranges, count, 0));
}

/** Calls ptrace(2) of a thread, with a number as its data. @returns -1 if it failed */
export function ptrace(request: number, thread: number, data: number): number {
  return Number(libc().ptrace(SYS_PTRACE, request, thread, 0, data));
}

/** Reads or writes the registers of a traced thread (ptrace(2)). @returns -1 if it failed */
export function ptraceRegisters(
  request: number,
  thread: number,
  registers: BigUint64Array,
): number {
  return Number(libc().ptraceRegisters(SYS_PTRACE, request, thread, 0, registers));
}

/**
 * Looks whether a traced thread has stopped or ended (waitpid(2)). Never waits.
 * @returns its status; undefined if nothing has happened
 * @throws Error if this process traces no such thread
 */
export function stateOfTraced(thread: number): number | undefined {
  const status = new Int32Array(1);
  const found = libc().waitpid(thread, status, WNOHANG | WALL);
  if (found < 0) throw new Error(`thread ${thread} is gone (waitpid, errno ${lastErrno()})`);
  return found === 0 ? undefined : (status[0] ?? 0);
}

/**
 * Sends bytes over a unix socket together with a descriptor (SCM_RIGHTS, unix(7)). Never waits.
 * @returns the bytes sent; -1 if it failed: see `lastErrno`
 */
export function sendWithDescriptor(socket: number, bytes: Uint8Array, descriptor: number): number {
  const vector = new BigUint64Array([addressOf(bytes), BigInt(bytes.length)]);
  const control = new DataView(new ArrayBuffer(24));
  control.setBigUint64(0, 20n, true); // its length without padding
  control.setInt32(8, SOL_SOCKET, true);
  control.setInt32(12, SCM_RIGHTS, true);
  control.setInt32(16, descriptor, true);
  const message = new BigUint64Array(7);
  message[2] = addressOf(vector);
  message[3] = 1n;
  message[4] = addressOf(control);
  message[5] = BigInt(control.byteLength);
  return Number(libc().sendmsg(socket, message, MSG_DONTWAIT | MSG_NOSIGNAL));
}
