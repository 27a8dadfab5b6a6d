/**
 * Joins memory of another process into huge pages: process_madvise(2) with MADV_COLLAPSE, which
 * joins at once (Linux 6.1), whether all of the range is in use or not.
 */
import { closeSync, readFileSync } from 'node:fs';
import koffi from 'koffi';

// <asm/unistd.h>: the same on every architecture. libc has names for them since 2.36 only.
const SYS_PIDFD_OPEN = 434;
const SYS_PROCESS_MADVISE = 440;
const MADV_COLLAPSE = 25;
const EPERM = 1;
const TRANSPARENT = '/sys/kernel/mm/transparent_hugepage';
const NOT_ALLOWED = 'not allowed: it takes CAP_SYS_NICE, and to trace QEMU';

const libc = koffi.load('libc.so.6');
const pidfdOpen = libc.func('long syscall(long number, long pid, long flags)');
const processMadvise = libc.func(
  'long syscall(long number, long pidfd, uint64_t *iovec, long count, long advice, long flags)',
);

/** Returns the size of a huge page; undefined where the host has none or is told to make none. */
export function hugePageBytes(): number | undefined {
  try {
    if (readFileSync(`${TRANSPARENT}/enabled`, 'latin1').includes('[never]')) return undefined;
    return Number(readFileSync(`${TRANSPARENT}/hpage_pmd_size`, 'latin1'));
  } catch {
    return undefined;
  }
}

/** Returns a pidfd, which the caller closes. @throws Error if the process is gone */
export function openPidfd(pid: number): number {
  const pidfd = Number(pidfdOpen(SYS_PIDFD_OPEN, pid, 0));
  if (pidfd < 0) throw new Error(`pidfd_open of QEMU (process ${pid}): errno ${koffi.errno()}`);
  return pidfd;
}

/**
 * Joins a range into huge pages.
 * @returns false if the kernel cannot, for that range and now
 * @throws Error if it is not allowed
 */
export function collapse(pidfd: number, address: bigint, bytes: number): boolean {
  if (madvise(pidfd, BigUint64Array.of(address, BigInt(bytes))) >= 0) return true;
  if (koffi.errno() !== EPERM) return false;
  throw new Error(`process_madvise of QEMU: ${NOT_ALLOWED}`);
}

/**
 * Tries whether huge pages of another process may be joined, on none of its memory.
 * @param pid a process of the same user
 * @returns why not; undefined if they may
 */
export function joiningObstacle(pid: number): string | undefined {
  if (hugePageBytes() === undefined) return 'the kernel is told to make none';
  try {
    const pidfd = openPidfd(pid);
    try {
      const none = BigUint64Array.of();
      if (madvise(pidfd, none) === 0) return undefined;
      return koffi.errno() === EPERM ? NOT_ALLOWED : 'the kernel cannot (Linux 6.1 can)';
    } finally {
      closeSync(pidfd);
    }
  } catch (error) {
    return (error as Error).message;
  }
}

function madvise(pidfd: number, range: BigUint64Array): number {
  const count = range.length / 2;
  return Number(processMadvise(SYS_PROCESS_MADVISE, pidfd, range, count, MADV_COLLAPSE, 0));
}
