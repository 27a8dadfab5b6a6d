/**
 * Joins memory of another process into huge pages: process_madvise(2) with MADV_COLLAPSE, which
 * joins at once (Linux 6.1), whether all of the range is in use or not.
 */
import { closeSync, readFileSync } from 'node:fs';
import { EPERM, lastErrno, pidfdOpen, processMadvise } from './libc.ts';

/** The advice to join memory into huge pages (<asm-generic/mman-common.h>). */
const MADV_COLLAPSE = 25;
const TRANSPARENT = '/sys/kernel/mm/transparent_hugepage';
const NOT_ALLOWED = 'not allowed: it takes CAP_SYS_NICE, and to trace QEMU';

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
  const pidfd = pidfdOpen(pid);
  if (pidfd < 0) throw new Error(`pidfd_open of QEMU (process ${pid}): errno ${lastErrno()}`);
  return pidfd;
}

/**
 * Joins a range into huge pages.
 * @returns false if the kernel cannot, for that range and now
 * @throws Error if it is not allowed
 */
export function collapse(pidfd: number, address: bigint, bytes: number): boolean {
  const range = BigUint64Array.of(address, BigInt(bytes));
  if (processMadvise(pidfd, range, MADV_COLLAPSE) >= 0) return true;
  if (lastErrno() !== EPERM) return false;
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
      if (processMadvise(pidfd, none, MADV_COLLAPSE) === 0) return undefined;
      return lastErrno() === EPERM ? NOT_ALLOWED : 'the kernel cannot (Linux 6.1 can)';
    } finally {
      closeSync(pidfd);
    }
  } catch (error) {
    return (error as Error).message;
  }
}
