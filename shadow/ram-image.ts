/**
 * The image of one RAMBlock while it is written: the pages of a full one stand where they stand in the
 * block, those of a delta are packed, and pages equal to the base's are not stored.
 *
 *     page comes ──▶ is zeros ──▶ noted: as in the base, or zeros
 *                └─▶ has a slot ──▶ written there
 *                └─▶ has none ──▶ equal to the base: noted
 *                             └─▶ else: gets the next slot, or in a full image its own
 *
 * A page that never came is zeros, in either kind: QEMU sends every page once.
 */

import type { Allowance } from './allowance.ts';
import type { BaseImage } from './base-image.ts';
import { ShadowError } from './errors.ts';
import { PageFile } from './page-file.ts';
import { AS_BASE, type PageIndex, ZEROS } from './page-index.ts';
import { createReserved } from './reservation.ts';

export interface ImageOptions {
  /** Where images are that may be written again. */
  readonly spares?: string | undefined;
  /** What its pages are compared with, if it is a delta. */
  readonly base?: BaseImage | undefined;
  /** Bytes that are its own from the start; by default those of all pages. */
  readonly reservedBytes?: number;
  /** For what comes beyond. */
  readonly allowance?: Allowance | undefined;
}

export interface SealedImage {
  readonly index: PageIndex;
  /** Memory it occupies, bytes. */
  readonly storedBytes: number;
}

export class RamImage {
  readonly #path: string;
  readonly #length: number;
  readonly #pageSize: number;
  readonly #file: PageFile;
  readonly #entries: Int32Array;
  readonly #base: BaseImage | undefined;
  readonly #allowance: Allowance | undefined;
  /** Pages for which there is memory already. */
  #reserved: number;
  /** Slots that were ever taken: they have memory until the seal, also when their page has become zero. */
  #slots = 0;
  /** Of a delta, those among them that are free again. */
  readonly #free: number[] = [];
  /** Of a full image, in which a slot is one page's alone, those that were ever taken; empty of a delta. */
  readonly #taken: Uint8Array;

  /** @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO */
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
   * Takes the page at `chunk[at]`. The bytes must stay as they are until `flush`.
   * @throws ShadowError E_SHADOW_LAYOUT for a page outside the block, E_SHADOW_CLOSED, E_STORE_NO_ROOM
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

  zeroPage(offset: number): void {
    const page = this.#pageAt(offset);
    const slot = this.#entries[page] ?? ZEROS;
    this.#entries[page] = this.#base?.isZero(offset) ? AS_BASE : ZEROS;
    if (slot < 0) return;
    this.#file.drop(slot);
    if (this.#base !== undefined) this.#free.push(slot);
  }

  /**
   * Copies whole pages from there on, as many as fit.
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
      else part.fill(0); // whatever a recycled image has there
      page += count;
      at += count * size;
    }
  }

  /** Is the page so many pages on in a slot so many slots on? */
  #follows(page: number, count: number): boolean {
    return this.#entries[page + count] === (this.#entries[page] ?? ZEROS) + count;
  }

  /** Writes what has been gathered. Until then the pages are only borrowed. */
  flush(): void {
    this.#file.flush();
  }

  /** Frees what holds no page, and sums up the rest. The image is only to be closed after this. */
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

  /** Any later use throws E_SHADOW_CLOSED. Idempotent; what was not flushed is lost. */
  close(): void {
    this.#file.close();
  }

  /** What was dropped has its memory still: only one that was never taken costs any. */
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
