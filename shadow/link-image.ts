/**
 * Image of one RAM block in a link of a chain, while it is written: exactly the pages that were
 * written since its base. The writer knows which those are, so nothing is compared.
 *
 *     runs of pages ──▶ a slot each, the next ones ──▶ one pwrite, however many runs
 *                  └──▶ a page that came before keeps its slot
 *
 * A page that never came is as in the base.
 */
import { openSync } from 'node:fs';
import type { Allowance } from './allowance.ts';
import { ShadowError } from './errors.ts';
import { PageFile } from './page-file.ts';
import { AS_BASE, shorterIndex, ZEROS } from './page-index.ts';
import type { SealedImage } from './ram-image.ts';

/** Pages in a row of a RAM block. */
export interface PageRun {
  readonly page: number;
  readonly count: number;
}

/** An image that is written in runs of pages. */
export interface RunImage {
  /**
   * Writes pages.
   * @param bytes the pages of all runs, one after the other; borrowed for the call
   * @throws ShadowError E_SHADOW_LAYOUT, E_SHADOW_CLOSED, E_STORE_NO_ROOM
   */
  writeRuns(runs: readonly PageRun[], bytes: Uint8Array): void;
  /** Notes that pages are zeros. @throws ShadowError E_SHADOW_LAYOUT, E_SHADOW_CLOSED */
  zeroRun(run: PageRun): void;
}

/** Slots that there is room for at first. */
const FIRST_SLOTS = 1024;

/**
 * Arrays of entries, all AS_BASE, by length: kept from round to round, for a large VM's is many MiB
 * and would be cleared and collected every time.
 */
const spareEntries = new Map<number, Int32Array>();

function takeEntries(pages: number): Int32Array {
  const spare = spareEntries.get(pages);
  spareEntries.delete(pages);
  return spare ?? new Int32Array(pages).fill(AS_BASE);
}

function giveBackEntries(entries: Int32Array): void {
  spareEntries.set(entries.length, entries);
}

export class LinkImage implements RunImage {
  readonly #path: string;
  readonly #pageSize: number;
  readonly #file: PageFile;
  readonly #allowance: Allowance | undefined;
  readonly #entries: Int32Array;
  /** Pages that have come, in the order in which they came. */
  readonly #pages: number[] = [];
  #slots = 0;
  #isClosed = false;

  /** @throws ShadowError E_STORE_IO */
  static create(
    path: string,
    length: number,
    pageSize: number,
    allowance: Allowance | undefined,
  ): LinkImage {
    try {
      const fd = openSync(path, 'wx+', 0o600);
      return new LinkImage(fd, path, length / pageSize, pageSize, allowance);
    } catch (cause) {
      throw new ShadowError('E_STORE_IO', `cannot make ${path}`, { path, cause });
    }
  }

  private constructor(
    fd: number,
    path: string,
    pages: number,
    pageSize: number,
    allowance: Allowance | undefined,
  ) {
    this.#path = path;
    this.#pageSize = pageSize;
    this.#file = new PageFile(fd, path, pageSize, FIRST_SLOTS);
    this.#allowance = allowance;
    this.#entries = takeEntries(pages);
  }

  writeRuns(runs: readonly PageRun[], bytes: Uint8Array): void {
    this.#requireInside(runs, bytes.length);
    const entries = this.#entries;
    const firstFree = this.#slots;
    // A piece: slots in a row, whose pages are in a row in `bytes` as well.
    let [from, slotOfFrom, at] = [0, -1, 0];
    const flush = () => {
      if (at === from) return;
      const piece = bytes.subarray(from * this.#pageSize, at * this.#pageSize);
      this.#file.writeRun(slotOfFrom, piece);
      from = at;
    };
    for (const { page: first, count } of runs) {
      for (let page = first; page < first + count; page++, at++) {
        const entry = entries[page] ?? ZEROS;
        let slot = entry;
        if (entry < 0) {
          slot = this.#slots++;
          entries[page] = slot;
          if (entry === AS_BASE) this.#pages.push(page);
        }
        if (slot === slotOfFrom + (at - from) && at > from) continue;
        flush();
        slotOfFrom = slot;
      }
    }
    this.#allowance?.take((this.#slots - firstFree) * this.#pageSize);
    flush();
  }

  zeroRun(run: PageRun): void {
    this.#requireInside([run], run.count * this.#pageSize);
    for (let page = run.page; page < run.page + run.count; page++) {
      const entry = this.#entries[page] ?? ZEROS;
      if (entry === AS_BASE) this.#pages.push(page);
      if (entry >= 0) this.#file.drop(entry); // its slot stays empty: that is rare
      this.#entries[page] = ZEROS;
    }
  }

  /** Computes checksums. The image may only be closed after this. */
  async seal(): Promise<SealedImage> {
    const slots = this.#slots;
    this.#file.cut(slots);
    const checksums = await this.#file.checksums(slots);
    const pages = Uint32Array.from(this.#pages).sort();
    const entries = Int32Array.from(pages, (page) => this.#entries[page] ?? ZEROS);
    const pageSize = this.#pageSize;
    const changed = { pages, entries };
    const sparse = { pageSize, pages: this.#entries.length, changed, slots, checksums };
    return { index: shorterIndex(sparse), storedBytes: slots * pageSize };
  }

  /** Closes the image: any later use throws E_SHADOW_CLOSED. Idempotent. */
  close(): void {
    this.#file.close();
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const page of this.#pages) this.#entries[page] = AS_BASE;
    giveBackEntries(this.#entries);
  }

  #requireInside(runs: readonly PageRun[], bytes: number): void {
    if (this.#isClosed) {
      const path = this.#path;
      throw new ShadowError('E_SHADOW_CLOSED', `${path} is closed`, { path });
    }
    let pages = 0;
    for (const { page, count } of runs) {
      if (page < 0 || count < 0 || page + count > this.#entries.length) {
        const path = this.#path;
        throw new ShadowError('E_SHADOW_LAYOUT', `no pages ${page}+${count} in ${path}`, { path });
      }
      pages += count;
    }
    if (pages * this.#pageSize === bytes) return;
    const path = this.#path;
    throw new ShadowError('E_SHADOW_LAYOUT', `${bytes} bytes for ${pages} pages`, { path });
  }
}
