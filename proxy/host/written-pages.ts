/**
 * Finds the pages that a process has written since it was asked last: PAGEMAP_SCAN of
 * /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst; Linux 6.7), in memory that a
 * userfaultfd with WP_ASYNC watches (userfaultfd.ts).
 *
 *     struct pm_scan_arg    {size, flags, start, end, walk_end, vec, vec_len, max_pages,
 *                            inverted, mask, anyof, return}                    12 × u64
 *     struct page_region    {start, end, categories}                            3 × u64
 *
 * The first look at memory that was never protected says that all of it was written. A process that
 * has ended has written nothing, by this answer: the caller asks whether it is alive.
 *
 * Clearing tells a hypervisor in the kernel to drop what it has mapped of the whole range that the
 * call is given, written or not (do_pagemap_scan, fs/proc/task_mmu.c). So with KVM, pages are found
 * first, and just the runs that were found are cleared.
 */
import { closeSync, openSync } from 'node:fs';
import { isAlive, type KnownProcess } from './known-process.ts';
import { addressOf, ioctl, lastErrno } from './libc.ts';
import { PAGE_BYTES } from './linux.ts';

const PAGEMAP_SCAN = 0xc0606610;
const ARGUMENT_BYTES = 96n;
/** Index of walk_end in the argument. */
const WALK_END = 4;
const WP_MATCHING = 1n;
const CHECK_WPASYNC = 2n;
const WRITTEN = 2n;
const PRESENT = 8;
const SWAPPED = 16;
const ZERO_PAGE = 32;
const RETURNED = WRITTEN | BigInt(PRESENT | SWAPPED | ZERO_PAGE);
/** Regions that a call returns at most. */
const REGIONS = 4096;
const REGION_WORDS = 6;
const HIGH = 2 ** 32;
/** Errno of a kernel that does not know the call. */
const ENOTTY = 25;

/** Pages in a row, counted from the first page of a range. */
export interface WrittenRun {
  readonly page: number;
  readonly count: number;
  /** Nothing is there: neither in memory nor swapped out, or it is the kernel's page of zeros. */
  readonly absent: boolean;
}

/** The way in which marks are cleared. */
export type Clearing = 'as-found' | 'runs' | 'none';

/** A range of memory, page-aligned. */
export interface PageRange {
  readonly address: bigint;
  readonly bytes: number;
}

export class WrittenPages {
  readonly #target: KnownProcess;
  readonly #pagemap: number;
  readonly #regions = new BigUint64Array(3 * REGIONS);
  readonly #words = new Uint32Array(this.#regions.buffer);
  readonly #vector = addressOf(this.#regions);
  readonly #argument = new BigUint64Array(12);
  #clearedPages = 0;
  #open = true;

  /** @throws Error if the process has ended, or may not be looked at */
  constructor(target: KnownProcess) {
    this.#target = target;
    this.#pagemap = openSync(`/proc/${target.pid}/pagemap`, 'r');
    if (isAlive(target)) return;
    closeSync(this.#pagemap);
    throw new Error(`process ${target.pid} is gone`);
  }

  /** Returns the pages of all ranges that were given to the kernel to be cleared. */
  get clearedPages(): number {
    return this.#clearedPages;
  }

  /**
   * Finds the pages of a range that were written, and clears their marks.
   *
   *     as-found   in the same call
   *     runs       in a call for each run, so that only written pages are given to be cleared
   *     none       their marks stay
   *
   * @throws Error if the range is not watched, the process has ended, or this was closed
   */
  find(range: PageRange, clearing: Clearing): WrittenRun[] {
    // The number of a closed descriptor may be another file's by now.
    if (!this.#open) throw new Error('closed');
    const found = this.#scan(range, clearing === 'as-found');
    if (clearing === 'as-found') this.#clearedPages += range.bytes / PAGE_BYTES;
    if (clearing === 'runs') {
      for (const { page, count } of joined(found)) {
        const address = range.address + BigInt(page * PAGE_BYTES);
        this.#scan({ address, bytes: count * PAGE_BYTES }, true);
        this.#clearedPages += count;
      }
    }
    if (!isAlive(this.#target)) throw new Error(`process ${this.#target.pid} has ended`);
    return found;
  }

  /** Closes it. Idempotent. */
  close(): void {
    if (this.#open) closeSync(this.#pagemap);
    this.#open = false;
  }

  #scan({ address, bytes }: PageRange, clear: boolean): WrittenRun[] {
    const runs: WrittenRun[] = [];
    const argument = this.#argument;
    const end = address + BigInt(bytes);
    const flags = clear ? CHECK_WPASYNC | WP_MATCHING : CHECK_WPASYNC;
    for (let at = address; at < end; at = argument[WALK_END] ?? end) {
      argument.set([ARGUMENT_BYTES, flags, at, end, 0n, this.#vector, BigInt(REGIONS), 0n]);
      argument.set([0n, WRITTEN, 0n, RETURNED], 8);
      const count = ioctl(this.#pagemap, PAGEMAP_SCAN, argument);
      if (count < 0) throw new Error(`PAGEMAP_SCAN at 0x${at.toString(16)}: errno ${lastErrno()}`);
      this.#take(runs, Number(address), count);
    }
    return runs;
  }

  #take(runs: WrittenRun[], base: number, count: number): void {
    const words = this.#words;
    for (let at = 0; at < count * REGION_WORDS; at += REGION_WORDS) {
      // Addresses of processes have 47 bits, or 56: a number holds 53, and these are of pages.
      const start = (words[at] ?? 0) + (words[at + 1] ?? 0) * HIGH;
      const end = (words[at + 2] ?? 0) + (words[at + 3] ?? 0) * HIGH;
      const categories = words[at + 4] ?? 0;
      const absent = (categories & (PRESENT | SWAPPED)) === 0 || (categories & ZERO_PAGE) !== 0;
      runs.push({ page: (start - base) / PAGE_BYTES, count: (end - start) / PAGE_BYTES, absent });
    }
  }
}

/** Tells whether this kernel finds written pages (Linux 6.7). */
export function canFindWritten(): boolean {
  const pagemap = openSync('/proc/self/pagemap', 'r');
  try {
    const argument = new BigUint64Array(12);
    argument[0] = ARGUMENT_BYTES;
    argument[11] = WRITTEN;
    return ioctl(pagemap, PAGEMAP_SCAN, argument) >= 0 || lastErrno() !== ENOTTY;
  } finally {
    closeSync(pagemap);
  }
}

/** Joins runs that touch. */
function joined(runs: readonly WrittenRun[]): { page: number; count: number }[] {
  const all: { page: number; count: number }[] = [];
  for (const { page, count } of runs) {
    const last = all.at(-1);
    if (last !== undefined && last.page + last.count === page) last.count += count;
    else all.push({ page, count });
  }
  return all;
}
