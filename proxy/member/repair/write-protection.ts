/**
 * Lifts the protection that a broken-off background snapshot leaves behind in QEMU before 8.1.
 *
 *     it begins        QEMU write-protects the guest's memory (userfaultfd): a thread that writes a
 *                      page waits until QEMU has saved it
 *     it is whole      QEMU lifts the protection
 *     it is broken off QEMU lifts the protection since 8.1 (its commit 3a8b81f2e6); older ones do
 *                      not. The next write waits for ever: a vCPU's, or the main loop's, and then
 *                      QEMU's monitor does not answer any more
 *
 * So the monitor cannot help. But a userfaultfd serves any process that holds it: pidfd_getfd(2)
 * copies QEMU's own, and through the copy the protection is lifted as QEMU would have done. That
 * takes the right to trace the process: root's, or that of the same user where the system does not
 * limit it (Yama).
 */
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { isAlive, type KnownProcess } from '../../host/known-process.ts';
import { EPERM, ioctl, lastErrno, pidfdGetfd, pidfdOpen } from '../../host/libc.ts';
import { type MemoryRange, readMaps } from '../../host/proc-maps.ts';

// <linux/userfaultfd.h>; struct uffdio_range {start, len}, struct uffdio_writeprotect {range, mode}
const UFFDIO_UNREGISTER = 0x8010aa01;
const UFFDIO_WAKE = 0x8010aa02;
const UFFDIO_WRITEPROTECT = 0xc018aa06;

const LIFT_AGAIN_MS = 50;

interface Range {
  readonly start: bigint;
  readonly length: bigint;
}

/** Returns why this process may not lift the protection of a VM's; undefined if it may. */
export function liftingObstacle(vm: KnownProcess): string | undefined {
  const [fd] = readdirSync(`/proc/${vm.pid}/fd`);
  try {
    closeSync(copyOf(vm.pid, Number(fd)));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Lifts all write protection by userfaultfd from a process, and wakes the threads that wait for it.
 * @returns how many ranges were protected
 * @throws Error if this process may not
 */
export function liftWriteProtection(vm: KnownProcess): number {
  if (!isAlive(vm)) return 0;
  const copies = userfaultfds(vm.pid).map((fd) => copyOf(vm.pid, fd));
  try {
    if (copies.length === 0) return 0;
    const ranges = writableRanges(readMaps(vm.pid));
    const lifted = new Set<Range>();
    for (const fd of copies) {
      for (const range of ranges) {
        // Refused (ENOENT) for what is not registered with it.
        if (request(fd, UFFDIO_WRITEPROTECT, range, 0n)) lifted.add(range);
      }
    }
    // A range that stays registered here cannot be registered with the next snapshot's descriptor.
    for (const fd of copies) for (const range of lifted) request(fd, UFFDIO_UNREGISTER, range);
    for (const fd of copies) for (const range of lifted) request(fd, UFFDIO_WAKE, range);
    return lifted.size;
  } finally {
    for (const fd of copies) closeSync(fd);
  }
}

/**
 * Lifts again and again: a snapshot that is being broken off may still protect memory.
 * @returns a function that ends it
 */
export function keepLifting(vm: KnownProcess): () => void {
  const lift = () => {
    try {
      liftWriteProtection(vm);
    } catch {
      // The repair asks the VM's monitor next, and reports if that does not answer.
    }
  };
  const timer = setInterval(lift, LIFT_AGAIN_MS);
  lift();
  return () => clearInterval(timer);
}

/** Returns the ranges of a memory map that the process may write to. PURE. */
export function writableRanges(maps: readonly MemoryRange[]): Range[] {
  return maps
    .filter(({ isWritable }) => isWritable)
    .map(({ start, end }) => ({ start, length: end - start }));
}

function userfaultfds(pid: number): number[] {
  return readdirSync(`/proc/${pid}/fd`)
    .filter((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === 'anon_inode:[userfaultfd]';
      } catch {
        return false; // closed since
      }
    })
    .map(Number);
}

/** Copies a descriptor of another process. @throws Error */
function copyOf(pid: number, fd: number): number {
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

function failed(call: string, pid: number): Error {
  const errno = lastErrno();
  const why = errno === EPERM ? 'not allowed (it takes the right to trace it)' : `errno ${errno}`;
  return new Error(`${call} of QEMU (process ${pid}): ${why}`);
}

function request(fd: number, what: number, { start, length }: Range, ...more: bigint[]): boolean {
  return ioctl(fd, what, BigUint64Array.of(start, length, ...more)) === 0;
}
