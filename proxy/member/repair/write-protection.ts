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
import { closeSync, readdirSync } from 'node:fs';
import { isAlive, type KnownProcess } from '../../host/known-process.ts';
import { type MemoryRange, readMaps } from '../../host/proc-maps.ts';
import {
  type AddressRange,
  copyDescriptor,
  unprotect,
  unwatch,
  userfaultfdsOf,
  wake,
} from '../../host/userfaultfd.ts';

const LIFT_AGAIN_MS = 50;

/** Returns why this process may not lift the protection of a VM's; undefined if it may. */
export function liftingObstacle(vm: KnownProcess): string | undefined {
  const [fd] = readdirSync(`/proc/${vm.pid}/fd`);
  try {
    closeSync(copyDescriptor(vm.pid, Number(fd)));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Lifts all write protection by userfaultfd that a thread of a process would wait for, and wakes
 * the threads that do. One that only marks pages (userfaultfd.ts) is left: no thread waits for it.
 * @returns how many ranges were protected
 * @throws Error if this process may not
 */
export function liftWriteProtection(vm: KnownProcess): number {
  if (!isAlive(vm)) return 0;
  const others = userfaultfdsOf(vm.pid).filter(({ isAsync }) => !isAsync);
  const copies = others.map(({ fd }) => copyDescriptor(vm.pid, fd));
  try {
    if (copies.length === 0) return 0;
    const ranges = writableRanges(readMaps(vm.pid));
    const lifted = new Set<AddressRange>();
    for (const fd of copies) {
      for (const range of ranges) {
        // Refused (ENOENT) for what is not registered with it.
        if (unprotect(fd, range)) lifted.add(range);
      }
    }
    // A range that stays registered here cannot be registered with the next snapshot's descriptor.
    for (const fd of copies) for (const range of lifted) unwatch(fd, range);
    for (const fd of copies) for (const range of lifted) wake(fd, range);
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
export function writableRanges(maps: readonly MemoryRange[]): AddressRange[] {
  return maps
    .filter(({ isWritable }) => isWritable)
    .map(({ start, end }) => ({ start, length: end - start }));
}
