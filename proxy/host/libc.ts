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
  readonly processReadv: (
    pid: number,
    local: BigUint64Array,
    localCount: number,
    remote: BigUint64Array,
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
    processReadv: library.func(
      'long process_vm_readv(int pid, uint64_t *local, unsigned long locals, ' +
        'uint64_t *remote, unsigned long remotes, unsigned long flags)',
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
  const local = new BigUint64Array([BigInt(koffi.address(into)), length]);
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
