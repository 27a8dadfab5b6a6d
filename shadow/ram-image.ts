/**
 * Image of one RAM block, while it is written. A full image has each page where the block has it. A
 * delta has its pages packed, and does not store those that equal the base's.
 *
 *     page comes ──▶ is zeros ──▶ noted: as in the base, or zeros
 *                └─▶ has a slot ──▶ written there
 *                └─▶ has none ──▶ equal to the base: noted
 *                             └─▶ else: gets the next slot; in a full image, its own
 *
 * A page that never came is zeros, in either kind: QEMU sends every page at least once.
 */

import type { Allowance } from './allowance.ts';
import type { BaseImage } from './base-image.ts';
import { ShadowError } from './errors.ts';
import type { PageRun, RunImage } from './link-image.ts';
import { PageFile } from './page-file.ts';
import { AS_BASE, type PageIndex, ZEROS } from './page-index.ts';
import { createReserved } from './reservation.ts';

export interface ImageOptions {
  /** Folder of images that may be written again. */
  readonly spares?: string | undefined;
  /** Base of a delta, which its pages are compared with. */
  readonly base?: BaseImage | undefined;
  /** Bytes reserved from the start; by default those of all pages. */
  readonly reservedBytes?: number;
  /** Limit on growth beyond the reserved bytes. */
  readonly allowance?: Allowance | undefined;
}

export interface SealedImage {
  readonly index: PageIndex;
  /** Memory it occupies, bytes. */
  readonly storedBytes: number;
}

export class RamImage implements RunImage {
  readonly #path: string;
  readonly #length: number;
  readonly #pageSize: number;
  readonly #file: PageFile;
  readonly #entries: Int32Array;
  readonly #base: BaseImage | undefined;
  readonly #allowance: Allowance | undefined;
  /** Pages that have memory reserved. */
  #reserved: number;
  /**
   * Slots that were ever taken. They keep their memory until the seal, even if their page becomes
   * zeros.
   */
  #slots = 0;
  /** Slots of a delta that were taken and are free again. */
  readonly #free: number[] = [];
  /**
   * One for each slot of a full image that was ever taken; a slot belongs to one page there. Empty
   * for a delta.
   */
  readonly #taken: Uint8Array;

  /**
   * Makes the image's file, with the memory it is to have from the start.
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO
   */
  static async create(
    path: string,
    length: number,
    pageSize: number,
    options: ImageOptions = {},
  ): Promise<RamImage> {
    const { spares, base } = options;
    const pages = Math.ceil(length / pageSize);
    const wanted = Math.ceil((options.reservedBytes ?? length) / pageSize);
    const reservedBytes = Math.min(wanted, pages) * pageSize;
    const kind = base === undefined ? 'full' : 'delta';
    const fileBytes = base === undefined ? length : reservedBytes;
    const file = { kind, length: fileBytes, blockBytes: length } as const;
    const fd = await createReserved(path, { ...file, reservedBytes, spares });
    const written = new PageFile(fd, path, pageSize, pages);
    return new RamImage(written, path, length, pageSize, reservedBytes / pageSize, options);
  }

  private constructor(
    file: PageFile,
    path: string,
    length: number,
    pageSize: number,
    reserved: number,
    { base, allowance }: ImageOptions,
  ) {
    this.#path = path;
    this.#length = length;
    this.#pageSize = pageSize;
    this.#file = file;
    this.#reserved = reserved;
    this.#base = base;
    this.#allowance = allowance;
    const pages = Math.ceil(length / pageSize);
    this.#entries = new Int32Array(pages).fill(ZEROS);
    this.#taken = new Uint8Array(base === undefined ? pages : 0);
  }

  /**
   * Takes the page at `chunk[at]`. The bytes are borrowed: they must stay as they are until
   * `flush`.
   * @throws ShadowError E_SHADOW_LAYOUT for a page outside the block, E_SHADOW_CLOSED,
   * E_STORE_NO_ROOM
   */
  writePage(offset: number, chunk: Uint8Array, at: number): void {
    const page = this.#pageAt(offset);
    let slot = this.#entries[page] ?? ZEROS;
    if (slot < 0) {
      if (this.#base?.has(offset, chunk, at)) {
        this.#entries[page] = AS_BASE;
        return;
      }
      slot = this.#newSlot(page);
      this.#entries[page] = slot;
    }
    this.#file.write(slot, chunk, at);
  }

  /** Notes that a page is zeros. @throws ShadowError E_SHADOW_LAYOUT, E_SHADOW_CLOSED */
  zeroPage(offset: number): void {
    const page = this.#pageAt(offset);
    const slot = this.#entries[page] ?? ZEROS;
    this.#entries[page] = this.#base?.isZero(offset) ? AS_BASE : ZEROS;
    if (slot < 0) return;
    this.#file.drop(slot);
    if (this.#base !== undefined) this.#free.push(slot);
  }

  writeRuns(runs: readonly PageRun[], bytes: Uint8Array): void {
    let at = 0;
    for (const { page, count } of runs) {
      for (let one = page; one < page + count; one++, at += this.#pageSize) {
        this.writePage(one * this.#pageSize, bytes, at);
      }
    }
    this.flush(); // the bytes are borrowed until here
  }

  zeroRun({ page, count }: PageRun): void {
    for (let one = page; one < page + count; one++) this.zeroPage(one * this.#pageSize);
  }

  /**
   * Copies as many whole pages as fit, from `offset` on.
   * @throws ShadowError E_SHADOW_LAYOUT for a page outside the block, E_SHADOW_CLOSED
   */
  readPages(offset: number, into: Uint8Array): void {
    const size = this.#pageSize;
    const last = this.#pageAt(offset + into.length - size);
    for (let page = this.#pageAt(offset), at = 0; page <= last; ) {
      const slot = this.#entries[page] ?? ZEROS;
      let count = 1;
      if (slot >= 0) while (page + count <= last && this.#follows(page, count)) count++;
      const part = into.subarray(at, at + count * size);
      if (slot >= 0) this.#file.read(slot, part);
      else if (slot === AS_BASE) this.#base?.copy(page * size, part);
      else part.fill(0); // a recycled image may have something else there
      page += count;
      at += count * size;
    }
  }

  /** Tells whether the page `count` pages on is in the slot `count` slots on. */
  #follows(page: number, count: number): boolean {
    return this.#entries[page + count] === (this.#entries[page] ?? ZEROS) + count;
  }

  /** Writes the pages that have been gathered, which are not borrowed any more. */
  flush(): void {
    this.#file.flush();
  }

  /**
   * Frees memory that holds no page, and computes checksums. The image may only be closed after
   * this.
   */
  async seal(): Promise<SealedImage> {
    const pageSize = this.#pageSize;
    const entries = this.#entries;
    const delta = this.#base !== undefined;
    const slots = delta ? this.#slots : entries.length;
    if (delta) this.#file.cut(slots);
    else await this.#file.trim();
    const checksums = await this.#file.checksums(slots);
    const stored = delta ? slots : entries.reduce((sum, entry) => sum + (entry >= 0 ? 1 : 0), 0);
    return { index: { pageSize, entries, slots, checksums }, storedBytes: stored * pageSize };
  }

  /**
   * Closes the image: any later use throws E_SHADOW_CLOSED. Idempotent; pages not flushed are lost.
   */
  close(): void {
    this.#file.close();
  }

  /** Takes a slot for a page. Only a slot that was never taken costs memory. */
  #newSlot(page: number): number {
    const full = this.#base === undefined;
    const free = full ? undefined : this.#free.pop();
    if (free !== undefined) return free;
    if (full && this.#taken[page] === 1) return page;
    const slot = this.#slots++;
    if (slot >= this.#reserved) this.#allowance?.take(this.#pageSize);
    if (!full) return slot;
    this.#taken[page] = 1;
    return page;
  }

  #pageAt(offset: number): number {
    if (offset + this.#pageSize > this.#length) {
      const path = this.#path;
      throw new ShadowError('E_SHADOW_LAYOUT', `no page at ${offset} in ${path}`, { path });
    }
    return offset / this.#pageSize;
  }
}
