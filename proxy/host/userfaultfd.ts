/**
 * Userfaultfds of other processes (userfaultfd(2), ioctl_userfaultfd(2)), whose memory they watch.
 *
 *     with WP_ASYNC (Linux 6.7)   a write to a protected page goes on at once; the kernel only
 *                                 marks the page (written-pages.ts)
 *     without                     the thread that writes waits until the page is unprotected
 *
 * A userfaultfd serves every process that holds a copy of it. What it watches is watched until the
 * last copy is closed, so the one that stays in the process itself keeps it going.
 */
import { closeSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { callIn } from './inject.ts';
import type { KnownProcess } from './known-process.ts';
import { EPERM, ioctl, lastErrno, pidfdGetfd, pidfdOpen } from './libc.ts';

/** A range of addresses. */
export interface AddressRange {
  readonly start: bigint;
  readonly length: bigint;
}

// <asm/unistd_64.h>
const SYS_CLOSE = 3;
const SYS_USERFAULTFD = 323;
const O_NONBLOCK = 0x800;
const O_CLOEXEC = 0x80000;

// <linux/userfaultfd.h>; struct uffdio_range is {start, len}
const UFFD_USER_MODE_ONLY = 1;
const UFFDIO_API = 0xc018aa3f;
const UFFDIO_REGISTER = 0xc020aa00;
const UFFDIO_UNREGISTER = 0x8010aa01;
const UFFDIO_WAKE = 0x8010aa02;
const UFFDIO_WRITEPROTECT = 0xc018aa06;
const API_VERSION = 0xaan;
const MODE_WRITE_PROTECT = 2n;
const FEATURE_WRITE_PROTECT = 1n << 0n;
const FEATURE_HUGETLBFS_SHMEM = 1n << 12n;
const FEATURE_UNPOPULATED = 1n << 13n;
const FEATURE_ASYNC = 1n << 15n;
const FEATURES =
  FEATURE_WRITE_PROTECT | FEATURE_HUGETLBFS_SHMEM | FEATURE_UNPOPULATED | FEATURE_ASYNC;

/** The longest that a process is waited for to make its userfaultfd, milliseconds. */
const CALL_LIMIT_MS = 2_000;

/**
 * Makes a userfaultfd in a process, for its own memory. It never delivers a fault of the kernel's,
 * so that a process without privileges gets it, too (vm.unprivileged_userfaultfd).
 * @param onExchanged as for `callIn`
 * @returns its number there
 * @throws Error if this process may not, or the kernel refuses
 */
export function makeUserfaultfdIn(target: KnownProcess, onExchanged?: () => void): number {
  const flags = BigInt(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  const fd = callIn(target, SYS_USERFAULTFD, flags, CALL_LIMIT_MS, onExchanged);
  if (fd >= 0) return fd;
  throw new Error(`the kernel refuses QEMU a userfaultfd: errno ${-fd}`);
}

/** Closes a descriptor in another process. @throws Error as `callIn` does */
export function closeIn(target: KnownProcess, fd: number): void {
  callIn(target, SYS_CLOSE, BigInt(fd), CALL_LIMIT_MS);
}

/** Tells whether a descriptor of a process is a userfaultfd. */
export function isUserfaultfd(pid: number, fd: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`) === 'anon_inode:[userfaultfd]';
  } catch {
    return false;
  }
}

/** Lists the userfaultfds of a process. @throws Error if it has ended, or may not be looked at */
export function userfaultfdsOf(pid: number): { readonly fd: number; readonly isAsync: boolean }[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    try {
      if (!isUserfaultfd(pid, Number(name))) return [];
      return [{ fd: Number(name), isAsync: isAsync(pid, name) }];
    } catch {
      return []; // closed since
    }
  });
}

/** Tells whether writes go on at once, from `API: aa:FEATURES:…` (fs/userfaultfd.c). */
function isAsync(pid: number, fd: string): boolean {
  const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
  const features = /^API:\s*[0-9a-f]+:([0-9a-f]+):/m.exec(info)?.[1] ?? '0';
  return (BigInt(`0x${features}`) & FEATURE_ASYNC) !== 0n;
}

/** Copies a descriptor of another process. The caller closes the copy. @throws Error */
export function copyDescriptor(pid: number, fd: number): number {
  const process = pidfdOpen(pid);
  if (process < 0) throw failed('pidfd_open', pid);
  try {
    const copy = pidfdGetfd(process, fd);
    if (copy < 0) throw failed('pidfd_getfd', pid);
    return copy;
  } finally {
    closeSync(process);
  }
}

/**
 * Has a new userfaultfd mark written pages.
 * @returns false if this kernel cannot (before Linux 6.7)
 */
export function enableAsync(fd: number): boolean {
  return ioctl(fd, UFFDIO_API, BigUint64Array.of(API_VERSION, FEATURES, 0n)) === 0;
}

/** Has a range watched. @returns 0, or the errno: EBUSY (16) if another userfaultfd watches it */
export function watch(fd: number, { start, length }: AddressRange): number {
  const argument = BigUint64Array.of(start, length, MODE_WRITE_PROTECT, 0n);
  return ioctl(fd, UFFDIO_REGISTER, argument) === 0 ? 0 : lastErrno();
}

/** Watches a range no longer, which lifts its protection. @returns false if it was not watched */
export function unwatch(fd: number, range: AddressRange): boolean {
  return request(fd, UFFDIO_UNREGISTER, range);
}

/** Lifts the protection of a range, which stays watched. @returns false if it was not watched */
export function unprotect(fd: number, range: AddressRange): boolean {
  return request(fd, UFFDIO_WRITEPROTECT, range, 0n);
}

/** Wakes threads that wait to write to a range. */
export function wake(fd: number, range: AddressRange): void {
  request(fd, UFFDIO_WAKE, range);
}

function request(fd: number, what: number, range: AddressRange, ...more: bigint[]): boolean {
  return ioctl(fd, what, BigUint64Array.of(range.start, range.length, ...more)) === 0;
}

function failed(call: string, pid: number): Error {
  const errno = lastErrno();
  const why = errno === EPERM ? 'not allowed (it takes the right to trace it)' : `errno ${errno}`;
  return new Error(`${call} of QEMU (process ${pid}): ${why}`);
}
