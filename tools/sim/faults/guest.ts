/**
 * A VM as the protocol sees it: memory that changes while it runs, and whether anything it sends
 * gets out. Memory is a few pages of version numbers: enough to tell a stale page from a fresh one.
 *
 *     RUNNING ──stop──▶ STANDING ──cont──▶ RUNNING        any ──kill──▶ DEAD
 *
 * A VM whose frames are held (background capture on a QEMU that resumes by itself) counts as
 * stopped: no other can see that it runs.
 */
import type { Random } from '../random.ts';

export const PAGES = 8;
/** Pages written between two looks, at most. */
const WRITES = 3;

export type Memory = readonly number[];

export class Guest {
  readonly name: string;
  readonly #random: Random;
  readonly #pages: number[];
  /** Pages that were written since their marks were cleared. */
  readonly #marked = new Set<number>();
  #state: 'running' | 'standing' | 'dead' = 'running';
  #version = 0;
  #stoodSinceMs = 0;
  /** The number of times it was started: a later QEMU does not do what an earlier was asked. */
  life = 0;
  /** The time until which QEMU is busy: it takes commands one at a time, from any client. */
  busyUntilMs = 0;
  /** Times `cont` will be refused before it works. */
  refusals = 0;

  constructor(name: string, random: Random) {
    this.name = name;
    this.#random = random;
    // Page 0 is never written: what every delta leaves to its base.
    this.#pages = Array.from({ length: PAGES }, (_, page) => page);
  }

  get runs(): boolean {
    return this.#state === 'running';
  }

  get isDead(): boolean {
    return this.#state === 'dead';
  }

  /** Returns the milliseconds it has been stopped by now; 0 if it is not. */
  stoodForMs(nowMs: number): number {
    return this.#state === 'standing' ? nowMs - this.#stoodSinceMs : 0;
  }

  /** Returns its memory as it is now: a guest that runs has written some of it since. */
  look(): Memory {
    if (this.runs) {
      for (let left = this.#random.integer(0, WRITES); left > 0; left--) {
        const page = this.#random.integer(1, PAGES - 1);
        this.#pages[page] = ++this.#version + PAGES;
        this.#marked.add(page);
      }
    }
    return [...this.#pages];
  }

  /** Clears all marks. @returns the pages that were marked */
  takeMarks(): ReadonlySet<number> {
    const marked = new Set(this.#marked);
    this.#marked.clear();
    return marked;
  }

  /** Stops it. @returns true if it ran */
  stop(nowMs: number): boolean {
    if (!this.runs) return false;
    this.look();
    this.#state = 'standing';
    this.#stoodSinceMs = nowMs;
    return true;
  }

  /** Resumes it. @returns true if it runs now: QEMU may refuse for a while */
  cont(): boolean {
    if (this.isDead) return false;
    if (this.#state === 'standing' && this.refusals > 0) {
      this.refusals -= 1;
      return false;
    }
    this.#state = 'running';
    return true;
  }

  kill(): void {
    this.#state = 'dead';
  }

  /** Starts it anew, from a shadow or from nothing. */
  boot(memory?: Memory): void {
    memory?.forEach((version, page) => {
      this.#pages[page] = version;
    });
    this.#state = 'running';
    this.life += 1;
    this.busyUntilMs = 0;
    this.refusals = 0;
  }
}
