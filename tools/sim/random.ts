/**
 * Random numbers of the simulator: the same seed, the same numbers, on every machine. PURE. The
 * generator is mulberry32 (T. Ettinger, public domain): 32 bits of state, plenty for a model.
 */
export class Random {
  #state: number;

  constructor(seed: number) {
    // Neighbouring seeds must not begin alike: they are spread before use.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0;
    this.next();
  }

  /** Returns a number from 0 to below 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  uniform(least: number, most: number): number {
    return least + (most - least) * this.next();
  }

  /** Draws a whole number, both ends included. */
  integer(least: number, most: number): number {
    return Math.floor(this.uniform(least, most + 1));
  }

  /** Draws a number, as likely between 1 and 2 as between 2 and 4: for sizes and rates. */
  logUniform(least: number, most: number): number {
    return Math.exp(this.uniform(Math.log(least), Math.log(most)));
  }

  exponential(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }

  choice<T>(first: T, ...others: readonly T[]): T {
    return others[this.integer(0, others.length) - 1] ?? first;
  }

  /** Makes a generator whose use does not shift the numbers of this one. */
  fork(): Random {
    return new Random(Math.floor(this.next() * 2 ** 32));
  }
}
