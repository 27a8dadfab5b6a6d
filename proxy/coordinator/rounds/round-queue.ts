/**
 * Rounds that do not fit now, and wait for memory, for as long as is configured:
 *
 *     ──▶ attempt ──▶ done
 *           │  ▲
 *     no room  └── admission, asked twice a second ──▶ never fits, or too late: the refusal
 *           └──▶ WAITING ──abort──▶ E_ROUND_ABORTED
 *
 * The cluster is not kept busy meanwhile: it is the removal of epochs that is waited for.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Failure, toFailure, UmbraError } from '../../failure/failure.ts';
import type { Exclusive } from './exclusive.ts';

/** Codes of what more memory would cure. */
const MAY_FIT_LATER: ReadonlySet<string> = new Set(['E_BUDGET', 'E_STORE_NO_ROOM']);
/** The kernel tells nobody when memory becomes free, so a queued round asks. */
const LOOK_MS = 500;

export class RoundQueue {
  readonly #limitMs: number;
  readonly #exclusive: Exclusive;
  readonly #admit: () => Promise<void>;
  readonly #waiting = new Map<AbortController, Failure>();

  /** @param admit throws what makes a round be refused now */
  constructor(limitMs: number, exclusive: Exclusive, admit: () => Promise<void>) {
    this.#limitMs = limitMs;
    this.#exclusive = exclusive;
    this.#admit = admit;
  }

  /** Why the first of those that wait waits; undefined if none does. */
  get why(): Failure | undefined {
    return [...this.#waiting.values()].at(0);
  }

  abort(): void {
    for (const waiting of this.#waiting.keys()) waiting.abort();
  }

  /**
   * Runs a round, when there is room.
   * @param attempt the round, admission included
   * @param onQueued told why, each time it changes its mind
   * @throws UmbraError the refusal, E_ROUND_ABORTED
   */
  async run<T>(attempt: () => Promise<T>, onQueued: (why: Failure) => void): Promise<T> {
    const end = performance.now() + this.#limitMs;
    const waiting = new AbortController();
    try {
      for (;;) {
        try {
          return await attempt();
        } catch (error) {
          const { code } = toFailure(error, {});
          const overtaken = code === 'E_ROUND_BUSY' && this.#waiting.has(waiting);
          const again = MAY_FIT_LATER.has(code) || overtaken;
          if (!again || performance.now() >= end) throw error;
          await this.#awaitRoom(waiting, error, end, onQueued);
        }
      }
    } finally {
      this.#waiting.delete(waiting);
    }
  }

  async #awaitRoom(
    waiting: AbortController,
    refusal: unknown,
    end: number,
    onQueued: (why: Failure) => void,
  ): Promise<void> {
    let why = refusal;
    for (;;) {
      const failure = toFailure(why, {});
      if (MAY_FIT_LATER.has(failure.code)) {
        this.#waiting.set(waiting, failure);
        onQueued(failure);
      }
      await delay(LOOK_MS, undefined, { signal: waiting.signal }).catch(() => {});
      requireWanted(waiting);
      if (this.#exclusive.busy !== undefined) continue;
      try {
        await this.#exclusive.brief('admission', this.#admit);
        requireWanted(waiting);
        return;
      } catch (error) {
        const { code } = toFailure(error, {});
        if (!MAY_FIT_LATER.has(code) || performance.now() >= end) throw error;
        why = error;
      }
    }
  }
}

function requireWanted({ signal }: AbortController): void {
  if (!signal.aborted) return;
  const message = 'the round was ended while it waited for memory';
  throw new UmbraError({ code: 'E_ROUND_ABORTED', message });
}
