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

/** What a delta needs to know. */
export interface DeltaTerms {
  readonly base: BaseImage;
  /** Bytes reserved from the start. */
  readonly expectedBytes: number;
  /** For what comes beyond. */
  readonly allowance: Allowance;
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
  readonly #delta: DeltaTerms | undefined;
  #reservedSlots: number;
  /** Slots of a delta that are taken, and those among them that are free again. */
  #slots = 0;
  readonly #free: number[] = [];

  /**
   * @param spares where images are that may be written again
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO
   */
  static async create(
    path: string,
    length: number,
    pageSize: number,
    { spares, delta }: { readonly spares?: string | undefined; readonly delta?: DeltaTerms } = {},
  ): Promise<RamImage> {
    const pages = Math.ceil(length / pageSize);
    const expected = Math.min(Math.ceil((delta?.expectedBytes ?? 0) / pageSize), pages);
    const slots = delta === undefined ? pages : expected;
    const kind = delta === undefined ? 'full' : 'delta';
    const fd = await createReserved(path, slots * pageSize, kind, spares);
    const file = new PageFile(fd, path, pageSize, pages);
    return new RamImage(file, path, length, pageSize, slots, delta);
  }

  private constructor(
    file: PageFile,
    path: string,
    length: number,
    pageSize: number,
    reservedSlots: number,
    delta: DeltaTerms | undefined,
  ) {
    this.#path = path;
    this.#length = length;
    this.#pageSize = pageSize;
    this.#file = file;
    this.#reservedSlots = reservedSlots;
    this.#delta = delta;
    this.#entries = new Int32Array(Math.ceil(length / pageSize)).fill(ZEROS);
  }

  /**
   * Takes the page at `chunk[at]`. The bytes must stay as they are until `flush`.
   * @throws ShadowError E_SHADOW_LAYOUT for a page outside the block, E_SHADOW_CLOSED, E_STORE_NO_ROOM
   */
  writePage(offset: number, chunk: Uint8Array, at: number): void {
    const page = this.#pageAt(offset);
    let slot = this.#entries[page] ?? ZEROS;
    if (slot < 0) {
      if (this.#delta?.base.has(offset, chunk, at)) {
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
    this.#entries[page] = this.#delta?.base.isZero(offset) ? AS_BASE : ZEROS;
    if (slot < 0) return;
    this.#file.drop(slot);
    if (this.#delta !== undefined) this.#free.push(slot);
  }

  /** @throws ShadowError E_SHADOW_LAYOUT for a page that is not here: nothing packs those */
  readPage(offset: number, into: Uint8Array): void {
    const page = this.#pageAt(offset);
    const slot = this.#entries[page] ?? ZEROS;
    if (slot >= 0) this.#file.read(slot, into);
    else if (slot === AS_BASE) this.#delta?.base.copy(offset, into);
    else into.fill(0); // whatever a recycled image has there
  }

  /** Writes what has been gathered. Until then the pages are only borrowed. */
  flush(): void {
    this.#file.flush();
  }

  /** Frees what holds no page, and sums up the rest. The image is only to be closed after this. */
  async seal(): Promise<SealedImage> {
    const pageSize = this.#pageSize;
    const entries = this.#entries;
    const delta = this.#delta !== undefined;
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

  #newSlot(page: number): number {
    if (this.#delta === undefined) return page;
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#slots >= this.#reservedSlots) {
      this.#delta.allowance.take(this.#pageSize);
      this.#reservedSlots++;
    }
    return this.#slots++;
  }

  #pageAt(offset: number): number {
    if (offset + this.#pageSize > this.#length) {
      const path = this.#path;
      throw new ShadowError('E_SHADOW_LAYOUT', `no page at ${offset} in ${path}`, { path });
    }
    return offset / this.#pageSize;
  }
}
