/**
 * File of pages in slots, while it is written.
 *
 * Pages that follow each other are gathered and written with one pwritev(2). Into reserved tmpfs
 * pages that is the fastest way there is: a whole page needs no clearing first, and no fault maps
 * it (measured: 10 GB/s, against 3 GB/s for copies into a mapping on first touch).
 *
 * Checksums are computed as pages come, while these are in the processor's cache. That works as
 * long as the slots of a chunk are written in order, each once; those of other chunks are computed
 * at the seal.
 */
import { closeSync, ftruncateSync, readSync, writeSync, writevSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { alignedBuffer } from './aligned-buffer.ts';
import { ShadowError } from './errors.ts';
import { CHUNK_SLOTS, chunkChecksum } from './page-index.ts';
import { punchHole } from './reservation.ts';

/** Well below IOV_MAX (1024); a read of the stream brings 15 pages. */
const RUN_PAGES_MAX = 256;
/** Chunks summed between two turns of the event loop. */
const PIECES_A_TURN = 16;
const HOLES_A_TURN = 256;
/** Mark of a chunk whose slots did not come in order, each once. */
const STALE = -1;

export class PageFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #pageSize: number;
  /** One for each slot that holds a page. */
  #held: Uint8Array;
  #sums: Uint32Array;
  /** Slot after the last that was summed, for each chunk; or STALE. */
  #next: Int32Array;
  #run: Uint8Array[] = [];
  #runStart = 0;
  #runEnd = 0;
  #open = true;

  /**
   * @param fd descriptor of the file, closed by this object from now on
   * @param slots slots there are at first; `writeRun` makes more
   */
  constructor(fd: number, path: string, pageSize: number, slots: number) {
    this.#fd = fd;
    this.#path = path;
    this.#pageSize = pageSize;
    this.#held = new Uint8Array(slots);
    const chunks = Math.ceil(slots / CHUNK_SLOTS);
    this.#sums = new Uint32Array(chunks);
    this.#next = new Int32Array(chunks);
  }

  /**
   * Takes the page at `chunk[at]`. The bytes are borrowed: they must stay as they are until
   * `flush`.
   */
  write(slot: number, chunk: Uint8Array, at: number): void {
    this.#requireOpen();
    if (slot !== this.#runEnd || this.#run.length >= RUN_PAGES_MAX) this.flush();
    if (this.#run.length === 0) this.#runStart = slot;
    const page = chunk.subarray(at, at + this.#pageSize);
    this.#run.push(page);
    this.#runEnd = slot + 1;
    this.#held[slot] = 1;
    this.#sum(slot, page);
  }

  /** Writes pages to slots in a row. The bytes are borrowed for the call alone. */
  writeRun(slot: number, pages: Uint8Array): void {
    this.#requireOpen();
    this.flush();
    const position = slot * this.#pageSize;
    const written = this.#attempt(() => writeSync(this.#fd, pages, 0, pages.length, position));
    if (written !== pages.length) throw this.#short(written, pages.length);
    const end = slot + pages.length / this.#pageSize;
    if (end > this.#held.length) this.#grow(end);
    this.#held.fill(1, slot, end);
    for (let from = slot; from < end; ) {
      const chunk = Math.floor(from / CHUNK_SLOTS);
      const to = Math.min(end, (chunk + 1) * CHUNK_SLOTS);
      const [at, until] = [(from - slot) * this.#pageSize, (to - slot) * this.#pageSize];
      const next = this.#next[chunk] ?? STALE;
      if (next !== STALE && from >= next) {
        this.#sums[chunk] = crc32(pages.subarray(at, until), this.#sums[chunk] ?? 0);
        this.#next[chunk] = to;
      } else this.#next[chunk] = STALE;
      from = to;
    }
  }

  /** Copies as many whole slots as fit, from `slot` on. */
  read(slot: number, into: Uint8Array): void {
    this.#requireOpen();
    this.flush();
    readSync(this.#fd, into, 0, into.length, slot * this.#pageSize);
  }

  /** Notes that a slot holds no page any more. */
  drop(slot: number): void {
    this.#requireOpen();
    this.flush();
    this.#held[slot] = 0;
    this.#next[Math.floor(slot / CHUNK_SLOTS)] = STALE;
  }

  /** Writes the pages that have been gathered, which are not borrowed any more. */
  flush(): void {
    if (this.#run.length === 0) return;
    const run = this.#run;
    this.#run = [];
    const bytes = run.length * this.#pageSize;
    const written = this.#attempt(() => writevSync(this.#fd, run, this.#runStart * this.#pageSize));
    if (written === bytes) return;
    throw this.#short(written, bytes);
  }

  #grow(least: number): void {
    const slots = Math.max(least, 2 * this.#held.length);
    const chunks = Math.ceil(slots / CHUNK_SLOTS);
    const [held, sums, next] = [this.#held, this.#sums, this.#next];
    this.#held = new Uint8Array(slots);
    this.#held.set(held);
    this.#sums = new Uint32Array(chunks);
    this.#sums.set(sums);
    this.#next = new Int32Array(chunks);
    this.#next.set(next);
  }

  #short(written: number, bytes: number): ShadowError {
    const path = this.#path;
    const message = `${path}: ${written} of ${bytes} bytes were written`;
    return new ShadowError('E_STORE_IO', message, { path });
  }

  /** Frees the memory of slots that hold no page, which a recycled file may have had there. */
  async trim(): Promise<void> {
    this.flush();
    const held = this.#held;
    let hole = 0;
    let holes = 0;
    for (let slot = 0; slot <= held.length; slot++) {
      if (held[slot] === 0) {
        hole++;
        continue;
      }
      if (hole > 0) {
        const [start, length] = [(slot - hole) * this.#pageSize, hole * this.#pageSize];
        punchHole(this.#fd, this.#path, start, length);
        if (++holes % HOLES_A_TURN === 0) await nextTurn();
      }
      hole = 0;
    }
  }

  /** Cuts the file off after so many slots. */
  cut(slots: number): void {
    this.flush();
    this.#attempt(() => ftruncateSync(this.#fd, slots * this.#pageSize));
  }

  /** Returns the checksums of the first so many slots. */
  async checksums(slots: number): Promise<Uint32Array> {
    this.flush();
    const held = this.#held.subarray(0, slots);
    const sums = this.#sums.slice(0, Math.ceil(slots / CHUNK_SLOTS));
    const piece = alignedBuffer(CHUNK_SLOTS * this.#pageSize);
    let pieces = 0;
    for (const chunk of sums.keys()) {
      if (this.#next[chunk] !== STALE) continue;
      const from = chunk * CHUNK_SLOTS;
      const count = Math.min(CHUNK_SLOTS, slots - from);
      readSync(this.#fd, piece, 0, count * this.#pageSize, from * this.#pageSize);
      sums[chunk] = chunkChecksum(piece, held, from, this.#pageSize);
      if (++pieces % PIECES_A_TURN === 0) await nextTurn();
    }
    return sums;
  }

  /**
   * Closes the file: any later use throws E_SHADOW_CLOSED. Idempotent; pages not flushed are lost.
   */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#run = [];
    closeSync(this.#fd);
  }

  #sum(slot: number, page: Uint8Array): void {
    const chunk = Math.floor(slot / CHUNK_SLOTS);
    const next = this.#next[chunk] ?? STALE;
    if (next === STALE) return;
    if (slot < next) {
      this.#next[chunk] = STALE;
      return;
    }
    this.#sums[chunk] = crc32(page, this.#sums[chunk] ?? 0);
    this.#next[chunk] = slot + 1;
  }

  #requireOpen(): void {
    const path = this.#path;
    if (!this.#open) throw new ShadowError('E_SHADOW_CLOSED', `${path} is closed`, { path });
  }

  #attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      const full = code === 'ENOSPC' || code === 'ENOMEM' || code === 'EDQUOT';
      const message = `cannot write ${this.#path}: ${code}`;
      const context = { path: this.#path, cause };
      throw new ShadowError(full ? 'E_STORE_NO_ROOM' : 'E_STORE_IO', message, context);
    }
  }
}
