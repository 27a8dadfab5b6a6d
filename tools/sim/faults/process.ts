/**
 * A process that may die or be frozen at any instant. Its planned events happen only while it is
 * alive; those due while it is frozen happen when it is thawed.
 */
import type { Events, Happening } from '../events.ts';
import type { Random } from '../random.ts';

/** A planned event, and the life of the process that it belongs to. */
interface Planned {
  readonly life: number;
  readonly happening: Happening;
  isWanted: boolean;
}

export class ModelledProcess {
  readonly #events: Events;
  readonly #random: Random;
  #life = 0;
  #alive = true;
  #thawsAtMs = 0;

  constructor(events: Events, random: Random) {
    this.#events = events;
    this.#random = random;
  }

  get isAlive(): boolean {
    return this.#alive;
  }

  get isFrozen(): boolean {
    return this.#events.nowMs < this.#thawsAtMs;
  }

  /** Plans a happening. @returns a function that cancels it */
  after(ms: number, happening: Happening): () => void {
    const planned = { life: this.#life, happening, isWanted: true };
    // Closures without a name: tsx defines the name of each that has one, which takes as long as
    // all else here does.
    this.#events.after(ms, () => this.#happen(planned));
    return () => {
      planned.isWanted = false;
    };
  }

  freeze(ms: number): void {
    this.#thawsAtMs = Math.max(this.#thawsAtMs, this.#events.nowMs + ms);
  }

  die(): void {
    this.#alive = false;
    this.#life += 1;
  }

  start(): void {
    this.#alive = true;
    this.#life += 1;
    this.#thawsAtMs = 0;
  }

  #happen(planned: Planned): void {
    if (!planned.isWanted || planned.life !== this.#life || !this.#alive) return;
    // What waits for it then comes from several sockets: in no order.
    if (!this.isFrozen) planned.happening();
    else {
      const atMs = this.#thawsAtMs + this.#random.next();
      this.#events.at(atMs, () => this.#happen(planned));
    }
  }
}
