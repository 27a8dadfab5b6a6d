/**
 * A QEMU in precopy, as a proxy sees it. PURE: the time comes in, bytes go out. What it keeps to:
 *
 *     pass 1      all memory once. A page of zeros is 9 bytes on the wire, and soon looked through
 *     sync        at the end of a pass only: what was dirtied since the last one is the next pass,
 *                 whether or not it had been sent by then
 *     unread      nothing moves, the guest dirties on
 *     by itself   with switchover-ack it never converges; without, it stops when a sync finds less
 *                 than it sends in a millisecond
 *     stopped     nothing is dirtied; what was unsent, what was dirtied since the last sync, and
 *                 device state are still to come
 *
 * "Work" is the time of sending in bytes: a page of zeros is more of it than its 9 bytes.
 */
import { type DirtyModel, newlyDirty, PAGE_BYTES, pageWrites, regionsOf } from './dirty-model.ts';

/** A header, and for most pages a page. */
export const NORMAL_PAGE_WIRE_BYTES = 8 + PAGE_BYTES;
export const ZERO_PAGE_WIRE_BYTES = 9;
/** Looking through a page is ten times as fast as sending it. */
const ZERO_PAGE_WORK_BYTES = PAGE_BYTES / 10;

export interface VmSpec {
  readonly ramBytes: number;
  /** The share of pages of zeros. Guests write to the others. */
  readonly zeroShare: number;
  readonly dirty: DirtyModel;
  readonly switchoverAck: boolean;
  readonly deviceBytes: number;
  /** Time it takes to save device state, milliseconds. */
  readonly deviceMs: number;
  /** From `stop` to STOP, milliseconds. */
  readonly stopMs: number;
}

/** Pages to be sent between two syncs, and what comes after them. */
interface Load {
  readonly normalPages: number;
  readonly zeroPages: number;
  readonly work: number;
  readonly wireBytes: number;
}

export class ModelledVm {
  readonly #spec: VmSpec;
  readonly #pages: number;
  readonly #zeroPages: number;
  /**
   * Per region of the dirty model: its pages, those dirty since the last sync, those in the pass.
   */
  readonly #regions: readonly number[];
  readonly #logged: number[];
  readonly #inPass: number[];
  #loggedUntilMs = 0;
  #load: Load = makeLoad(0, 0, 0);
  #leftWork = 0;
  /** Sent in loads that are over. */
  #wireBytes = 0;
  #normalPages = 0;
  #zeroPagesSent = 0;
  #passes = 0;
  #runs = true;

  constructor(spec: VmSpec) {
    this.#spec = spec;
    this.#pages = Math.floor(spec.ramBytes / PAGE_BYTES);
    this.#zeroPages = Math.floor(this.#pages * spec.zeroShare);
    this.#regions = regionsOf(spec.dirty, this.#pages - this.#zeroPages);
    this.#logged = this.#regions.map(() => 0);
    this.#inPass = this.#regions.map(() => 0);
  }

  get runs(): boolean {
    return this.#runs;
  }

  get passes(): number {
    return this.#passes;
  }

  get totalPages(): number {
    return this.#pages;
  }

  /** Returns the work until the pass, or after a stop the stream, is over. */
  get leftWork(): number {
    return this.#leftWork;
  }

  /** Returns the work until so many bytes were on the wire; all that is left if they never are. */
  workUntil(wireBytes: number): number {
    const { work, wireBytes: ofLoad } = this.#load;
    if (this.#wireBytes + ofLoad <= wireBytes) return this.#leftWork;
    return Math.max(0, ((wireBytes - this.wireBytes) * work) / ofLoad);
  }

  get wireBytes(): number {
    return this.#wireBytes + this.#load.wireBytes * this.#sentShare;
  }

  get normalPages(): number {
    return this.#normalPages + this.#load.normalPages * this.#sentShare;
  }

  get zeroPages(): number {
    return this.#zeroPagesSent + this.#load.zeroPages * this.#sentShare;
  }

  get seenPages(): number {
    const sent = this.normalPages + this.zeroPages;
    return this.#passes >= 2 ? this.#pages : Math.min(this.#pages, sent);
  }

  /** Returns what is dirty and unsent, as QEMU reports it: without what the next sync will find. */
  get remainingBytes(): number {
    const { normalPages, zeroPages } = this.#load;
    return (normalPages + zeroPages) * (1 - this.#sentShare) * PAGE_BYTES;
  }

  /** Returns what the present pass has found dirty; undefined in the first. */
  get passBytes(): number | undefined {
    return this.#passes < 2 ? undefined : this.#load.normalPages * PAGE_BYTES;
  }

  /** Begins to migrate. On a VM that is stopped already, all there is to send is the drain. */
  migrate(nowMs: number): void {
    this.#passes = 1;
    this.#loggedUntilMs = nowMs;
    this.#logged.fill(0);
    for (const [region, pages] of this.#regions.entries()) this.#inPass[region] = pages;
    const otherBytes = this.#runs ? 0 : this.#spec.deviceBytes;
    this.#begin(makeLoad(this.#pages - this.#zeroPages, this.#zeroPages, otherBytes));
  }

  send(work: number): void {
    this.#leftWork = Math.max(0, this.#leftWork - work);
  }

  /** Syncs the dirty log, for the pass is sent. @returns pages in the next pass */
  sync(nowMs: number): number {
    this.#log(nowMs);
    let found = 0;
    for (const [region, pages] of this.#logged.entries()) {
      this.#inPass[region] = pages;
      this.#logged[region] = 0;
      found += pages;
    }
    this.#passes += 1;
    this.#begin(makeLoad(found, 0, 0));
    return found;
  }

  /** Stops it. Unsent pages and pages dirtied since the last sync may be the same. */
  stop(nowMs: number): void {
    if (!this.#runs) return;
    this.#log(nowMs);
    this.#runs = false;
    if (this.#passes === 0) return;
    const unsent = 1 - this.#sentShare;
    const { normalPages, zeroPages } = this.#load;
    let pages = normalPages * unsent;
    for (const [region, logged] of this.#logged.entries()) {
      const inPass = (this.#inPass[region] ?? 0) * unsent;
      const regionPages = this.#regions[region] ?? 0;
      if (regionPages > 0) pages += logged * (1 - inPass / regionPages);
    }
    this.#begin(makeLoad(pages, zeroPages * unsent, this.#spec.deviceBytes));
  }

  resume(): void {
    this.#runs = true;
  }

  get #sentShare(): number {
    const { work } = this.#load;
    return work === 0 ? 1 : 1 - this.#leftWork / work;
  }

  #log(nowMs: number): void {
    const fromMs = this.#loggedUntilMs;
    this.#loggedUntilMs = nowMs;
    if (!this.#runs) return;
    for (const [region, pages] of this.#regions.entries()) {
      const writes = pageWrites(this.#spec.dirty, region, fromMs, nowMs);
      const logged = this.#logged[region] ?? 0;
      this.#logged[region] = logged + newlyDirty(pages, logged, writes);
    }
  }

  #begin(load: Load): void {
    const { wireBytes, normalPages, zeroPages } = this;
    this.#wireBytes = wireBytes;
    this.#normalPages = normalPages;
    this.#zeroPagesSent = zeroPages;
    this.#load = load;
    this.#leftWork = load.work;
  }
}

function makeLoad(normalPages: number, zeroPages: number, otherBytes: number): Load {
  const bytes = normalPages * NORMAL_PAGE_WIRE_BYTES + otherBytes;
  return {
    normalPages,
    zeroPages,
    work: bytes + zeroPages * ZERO_PAGE_WORK_BYTES,
    wireBytes: bytes + zeroPages * ZERO_PAGE_WIRE_BYTES,
  };
}
