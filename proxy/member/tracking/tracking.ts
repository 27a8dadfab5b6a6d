/**
 * Tracking of a VM: a userfaultfd of QEMU's own watches its memory, and marks the pages that are
 * written (host/userfaultfd.ts, host/written-pages.ts).
 *
 *     begin    makes the userfaultfd in QEMU, has each RAM block watched, protects all of it
 *     adopt    finds that of an earlier proxy, by the ledger
 *     end      watches no more, and closes it
 *
 * It stays in QEMU when this proxy ends. Where anything refuses, nothing is left in QEMU.
 */
import { closeSync } from 'node:fs';
import { UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import type { KnownProcess } from '../../host/known-process.ts';
import {
  closeIn,
  copyDescriptor,
  enableAsync,
  isUserfaultfd,
  makeUserfaultfdIn,
  unwatch,
  watch,
} from '../../host/userfaultfd.ts';
import { type Clearing, WrittenPages, type WrittenRun } from '../../host/written-pages.ts';
import type { RamBlockInfo } from '../qemu/memory.ts';
import { Ledger, type MemoryKind, type OwedRun, type WatchedBlock } from './ledger.ts';

/** Errno of a range that another userfaultfd watches. */
const EBUSY = 16;

/** Pages in a row that were written. */
export type FoundRun = OwedRun & Pick<WrittenRun, 'absent'>;

/** A VM, and where the ledger of its tracking is. */
export interface TrackedVm {
  readonly vm: KnownProcess;
  /** The member's own folder. */
  readonly directory: string;
  readonly member: string;
}

export class Tracking {
  readonly blocks: readonly WatchedBlock[];
  readonly ledger: Ledger;
  readonly #tracked: TrackedVm;
  readonly #pages: WrittenPages;
  readonly #clearing: Clearing;

  /**
   * Takes over the tracking that an earlier round has begun.
   * @param blocks the VM's blocks as they are now
   * @returns undefined if the VM is not tracked, or its blocks are others by now
   */
  static adopt(tracked: TrackedVm, blocks: readonly RamBlockInfo[]): Tracking | undefined {
    const ledger = new Ledger(tracked.directory);
    const fd = ledger.descriptorOf(tracked.vm);
    if (fd === undefined || !ledger.isWatched || !isSame(ledger.blocks, blocks)) return undefined;
    return isUserfaultfd(tracked.vm.pid, fd) ? new Tracking(tracked, ledger) : undefined;
  }

  /**
   * Begins to track a VM. No page is known to be written, or not, before a capture of all of it.
   * @throws UmbraError E_TRACKING_REFUSED; nothing is left in QEMU
   */
  static begin(tracked: TrackedVm, blocks: readonly WatchedBlock[], withKvm: boolean): Tracking {
    const { vm, directory, member } = tracked;
    endTracking(tracked);
    try {
      const onExchanged = () => faultPoint(`tracking/${member}/injecting`);
      const fd = makeUserfaultfdIn(vm, onExchanged);
      faultPoint(`tracking/${member}/injected`);
      const ledger = new Ledger(directory);
      try {
        // Before anything is watched, so that a successor can end it.
        ledger.begin(vm, fd, blocks, withKvm);
        watchAll(vm, fd, blocks);
        ledger.watched();
        faultPoint(`tracking/${member}/watched`);
        const tracking = new Tracking(tracked, ledger);
        tracking.forget();
        return tracking;
      } catch (error) {
        closeIn(vm, fd); // whatever is watched is watched no more
        ledger.remove();
        throw error;
      }
    } catch (cause) {
      const message = `its memory cannot be tracked: ${(cause as Error).message}`;
      throw new UmbraError({ code: 'E_TRACKING_REFUSED', message, member }, cause);
    }
  }

  private constructor(tracked: TrackedVm, ledger: Ledger) {
    this.#tracked = tracked;
    this.ledger = ledger;
    this.blocks = ledger.blocks;
    this.#pages = new WrittenPages(tracked.vm);
    this.#clearing = ledger.withKvm ? 'runs' : 'as-found';
  }

  /** Returns the blocks' names and lengths. */
  get sizes(): RamBlockInfo[] {
    return this.blocks.map(({ idstr, bytes: length }) => ({ idstr, length }));
  }

  /** Returns the kind of memory of a block; undefined for one that is never written. */
  kindOf(block: number): MemoryKind | undefined {
    return this.blocks[block]?.memory;
  }

  /** Counts the pages that are marked. Clears nothing. */
  countWritten(): number {
    return this.#find('none').reduce((sum, { count }) => sum + count, 0);
  }

  /**
   * Finds the pages that were written, and clears their marks. They are owed from now on. While the
   * VM runs, this must not be called if a disk passes the kernel's cache: what arrives in a page
   * that was pinned before is not marked.
   * @throws Error if QEMU has ended
   */
  take(): readonly FoundRun[] {
    const { member } = this.#tracked;
    return this.ledger.clearing(() => {
      const found = this.#find(this.#clearing);
      faultPoint(`tracking/${member}/scanned`);
      return found;
    });
  }

  /** Clears all marks, and forgets what was written: all memory is about to be captured. */
  forget(): void {
    this.ledger.forget();
    this.#find(this.#clearing);
  }

  close(): void {
    this.#pages.close();
    this.ledger.close();
  }

  #find(clearing: Clearing): FoundRun[] {
    const all: FoundRun[] = [];
    for (const [block, { address, bytes }] of this.blocks.entries()) {
      if (address === undefined) continue;
      for (const run of this.#pages.find({ address, bytes }, clearing)) all.push({ block, ...run });
    }
    return all;
  }
}

/**
 * Ends the tracking of a VM, if it is tracked: its memory is as if it had never been watched.
 * @returns false if it was not
 * @throws UmbraError E_TRACKING_REFUSED if QEMU may not be traced: it stays tracked
 */
export function endTracking({ vm, directory, member }: TrackedVm): boolean {
  const ledger = new Ledger(directory);
  const fd = ledger.descriptorOf(vm);
  const isTracked = fd !== undefined && isUserfaultfd(vm.pid, fd);
  try {
    if (isTracked) closeIn(vm, fd);
  } catch (cause) {
    const message = `its memory stays tracked: ${(cause as Error).message}`;
    throw new UmbraError({ code: 'E_TRACKING_REFUSED', message, member }, cause);
  }
  ledger.remove(); // not before: a successor could not end what it does not know
  return isTracked;
}

function watchAll(vm: KnownProcess, fd: number, blocks: readonly WatchedBlock[]): void {
  const copy = copyDescriptor(vm.pid, fd);
  const watched: WatchedBlock[] = [];
  try {
    if (!enableAsync(copy)) throw new Error('the kernel marks no written pages (Linux 6.7 does)');
    for (const block of blocks) {
      if (block.address === undefined) continue;
      const errno = watch(copy, { start: block.address, length: BigInt(block.bytes) });
      if (errno !== 0) throw new Error(whyNotWatched(block.idstr, errno));
      watched.push(block);
    }
  } catch (error) {
    for (const { address = 0n, bytes } of watched) {
      unwatch(copy, { start: address, length: BigInt(bytes) });
    }
    throw error;
  } finally {
    closeSync(copy);
  }
}

function whyNotWatched(idstr: string, errno: number): string {
  if (errno === EBUSY) return `${idstr} is watched by another program, or by a snapshot of QEMU’s`;
  return `the kernel does not watch ${idstr}: errno ${errno}`;
}

/** Compares addresses where QEMU tells them, since 8.0: a block keeps its own as long as it is. */
function isSame(a: Ledger['blocks'], b: readonly RamBlockInfo[]): boolean {
  if (a.length !== b.length) return false;
  return a.every(({ idstr, bytes, address }, at) => {
    const { idstr: name, length, address: told = address } = b[at] ?? {};
    return name === idstr && length === bytes && told === address;
  });
}
