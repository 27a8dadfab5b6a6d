/**
 * Copies pages of a VM's memory into its shadow: runs of pages, one after the other, by
 * process_vm_readv(2).
 *
 *     runs ──▶ batches ──▶ one call ──▶ buffer ──▶ image
 *       └──▶ absent, in anonymous memory: zeros, and not read
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { alignedBuffer, type RunImage } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { isAlive, type KnownProcess } from '../../host/known-process.ts';
import { lastErrno, processReadRanges } from '../../host/libc.ts';
import { PAGE_BYTES } from '../../host/linux.ts';
import type { FoundRun, Tracking } from '../tracking/tracking.ts';

const BATCH_PAGES = 1024;
/** UIO_MAXIOV. */
const BATCH_RUNS = 1024;
/** Batches between two turns of the event loop: some ten milliseconds. */
const BATCHES_A_TURN = 8;

/** Kept from round to round: fresh memory has to be found and cleared. A process has one round. */
let buffer: Buffer | undefined;

function theBuffer(): Buffer {
  buffer ??= alignedBuffer(BATCH_PAGES * PAGE_BYTES);
  return buffer;
}

export class WrittenCopy {
  readonly #vm: KnownProcess;
  readonly #tracking: Tracking;
  readonly #images: readonly (RunImage | undefined)[];
  readonly #throwIfOver: () => void;
  readonly #buffer = theBuffer();
  readonly #ranges = new BigUint64Array(2 * BATCH_RUNS);
  #batches = 0;

  /**
   * @param images by block of the tracking; undefined for a block that is not part of the shadow
   * @param throwIfOver throws when the round is over, which ends a copy
   */
  constructor(
    vm: KnownProcess,
    tracking: Tracking,
    images: readonly (RunImage | undefined)[],
    throwIfOver: () => void,
  ) {
    this.#vm = vm;
    this.#tracking = tracking;
    this.#images = images;
    this.#throwIfOver = throwIfOver;
  }

  /**
   * Copies runs.
   * @returns the pages of all of them
   * @throws UmbraError E_VM_MEMORY; ShadowError
   */
  async copy(runs: readonly FoundRun[]): Promise<number> {
    let pages = 0;
    let batch: { page: number; count: number }[] = [];
    let batchPages = 0;
    let block = -1;
    const flush = async () => {
      if (batchPages > 0) await this.#copyBatch(block, batch, batchPages);
      batch = [];
      batchPages = 0;
    };
    for (const run of runs) {
      const image = this.#images[run.block];
      if (image === undefined) continue;
      pages += run.count;
      if (run.absent && this.#tracking.kindOf(run.block) === 'anonymous') {
        image.zeroRun(run);
        continue;
      }
      if (run.block !== block) await flush();
      block = run.block;
      for (let done = 0; done < run.count; ) {
        const count = Math.min(run.count - done, BATCH_PAGES - batchPages);
        batch.push({ page: run.page + done, count });
        batchPages += count;
        done += count;
        if (batchPages === BATCH_PAGES || batch.length === BATCH_RUNS) await flush();
      }
    }
    await flush();
    if (!isAlive(this.#vm)) throw unreadable('QEMU has ended');
    return pages;
  }

  async #copyBatch(
    block: number,
    runs: readonly { readonly page: number; readonly count: number }[],
    pages: number,
  ): Promise<void> {
    const { address = 0n, idstr = '' } = this.#tracking.blocks[block] ?? {};
    for (const [at, { page, count }] of runs.entries()) {
      this.#ranges[2 * at] = address + BigInt(page * PAGE_BYTES);
      this.#ranges[2 * at + 1] = BigInt(count * PAGE_BYTES);
    }
    const into = this.#buffer.subarray(0, pages * PAGE_BYTES);
    const got = processReadRanges(this.#vm.pid, this.#ranges, runs.length, into);
    if (got !== into.length) throw unreadable(`${idstr}: ${got} bytes, errno ${lastErrno()}`);
    this.#images[block]?.writeRuns(runs, into);
    if (++this.#batches % BATCHES_A_TURN !== 0) return;
    await nextTurn();
    this.#throwIfOver();
  }
}

function unreadable(why: string): UmbraError {
  return new UmbraError({ code: 'E_VM_MEMORY', message: `cannot read the VM’s memory: ${why}` });
}
