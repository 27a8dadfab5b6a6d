/**
 * Keeps work to a rate: after so many bytes it waits until they were due. Time comes as an argument.
 * A pause of the work is not made up for by a burst, but for a short one.
 */
export interface Clock {
  now(): number;
  sleep(ms: number): Promise<void>;
}

const BURST_MS = 100;
/** Shorter waits cost more than they pace. */
const LEAST_WAIT_MS = 2;

export class Pace {
  readonly #bytesPerMs: number;
  readonly #clock: Clock;
  #dueMs: number;

  /** @param bytesPerSecond undefined: as fast as it goes */
  constructor(bytesPerSecond: number | undefined, clock: Clock) {
    this.#bytesPerMs = (bytesPerSecond ?? Number.POSITIVE_INFINITY) / 1000;
    this.#clock = clock;
    this.#dueMs = clock.now();
  }

  /** Resolves when work that has taken in `bytes` more may go on. */
  async spend(bytes: number): Promise<void> {
    const now = this.#clock.now();
    this.#dueMs = Math.max(this.#dueMs, now - BURST_MS) + bytes / this.#bytesPerMs;
    const wait = this.#dueMs - now;
    if (wait >= LEAST_WAIT_MS) await this.#clock.sleep(wait);
  }
}
