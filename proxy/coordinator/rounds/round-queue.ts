/**
 * Rounds that do not fit now, and wait for memory, for as long as is configured:
 *
 *     ──▶ attempt ──▶ done
 *           │  ▲
 *     no room  └── admission, asked twice a second ──▶ never fits, or too late: the refusal
 *           └──▶ WAITING ──abort──▶ E_ROUND_ABORTED
 *
 * The cluster is not busy while a round waits: what it waits for is that epochs are removed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Failure, toFailure, UmbraError } from '../../failure/failure.ts';
import type { StoreConfig } from '../../protocol/cluster.ts';
import type { Exclusive } from './exclusive.ts';

/** Codes of what more memory would cure. */
const MAY_FIT_LATER: ReadonlySet<string> = new Set(['E_BUDGET', 'E_STORE_NO_ROOM']);
/** The kernel does not tell when memory becomes free, so a queued round asks. */
const LOOK_MS = 500;

/** A round that may have to wait. */
export interface QueueableRound<T> {
  /** Runs the round, admission included. */
  attempt(): Promise<T>;
  /** Hears the reason each time the round begins or continues to wait. */
  onQueued(why: Failure): void;
  /** Ends the wait. */
  readonly signal: AbortSignal;
}

export class RoundQueue {
  readonly #store: Pick<StoreConfig, 'queueLimitMs'>;
  readonly #exclusive: Exclusive;
  readonly #admit: () => Promise<void>;

  /** @param admit throws what makes a round be refused now */
  constructor(
    store: Pick<StoreConfig, 'queueLimitMs'>,
    exclusive: Exclusive,
    admit: () => Promise<void>,
  ) {
    this.#store = store;
    this.#exclusive = exclusive;
    this.#admit = admit;
  }

  /**
   * Runs a round when there is room.
   * @throws UmbraError the refusal, or E_ROUND_ABORTED
   */
  async run<T>(round: QueueableRound<T>): Promise<T> {
    const end = performance.now() + this.#store.queueLimitMs;
    let hasWaited = false;
    for (;;) {
      try {
        return await round.attempt();
      } catch (error) {
        const { code } = toFailure(error, {});
        // Another round may have begun in the instant there was room.
        const again = MAY_FIT_LATER.has(code) || (code === 'E_ROUND_BUSY' && hasWaited);
        if (!again || performance.now() >= end) throw error;
        hasWaited = true;
        await this.#awaitRoom(round, error, end);
      }
    }
  }

  async #awaitRoom<T>(round: QueueableRound<T>, refusal: unknown, end: number): Promise<void> {
    let why = refusal;
    for (;;) {
      const failure = toFailure(why, {});
      if (MAY_FIT_LATER.has(failure.code)) round.onQueued(failure);
      await delay(LOOK_MS, undefined, { signal: round.signal }).catch(() => {});
      requireWanted(round.signal);
      if (this.#exclusive.busy !== undefined) continue;
      try {
        await this.#exclusive.brief('admission', this.#admit);
        requireWanted(round.signal);
        return;
      } catch (error) {
        const { code } = toFailure(error, {});
        if (!MAY_FIT_LATER.has(code) || performance.now() >= end) throw error;
        why = error;
      }
    }
  }
}

function requireWanted({ aborted }: AbortSignal): void {
  if (!aborted) return;
  const message = 'the round was ended while it waited for memory';
  throw new UmbraError({ code: 'E_ROUND_ABORTED', message });
}
