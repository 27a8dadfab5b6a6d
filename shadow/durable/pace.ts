/**
 * Keeps work to a rate: it waits until the bytes done so far are due. After a pause, at most
 * BURST_MS of unused rate is caught up. PURE: time comes as an argument.
 */
export interface Clock {
  now(): number;
  sleep(ms: number): Promise<void>;
}

const BURST_MS = 100;
/** Shortest wait: shorter ones cost more than they pace. */
const LEAST_WAIT_MS = 2;

export class Pace {
  readonly #bytesPerMs: number;
  readonly #clock: Clock;
  #dueMs: number;

  /** @param bytesPerSecond undefined: no limit */
  constructor(bytesPerSecond: number | undefined, clock: Clock) {
    this.#bytesPerMs = (bytesPerSecond ?? Number.POSITIVE_INFINITY) / 1000;
    this.#clock = clock;
    this.#dueMs = clock.now();
  }

  /** Counts bytes of work, and resolves when more may be done. */
  async spend(bytes: number): Promise<void> {
    const now = this.#clock.now();
    this.#dueMs = Math.max(this.#dueMs, now - BURST_MS) + bytes / this.#bytesPerMs;
    const wait = this.#dueMs - now;
    if (wait >= LEAST_WAIT_MS) await this.#clock.sleep(wait);
  }
}
