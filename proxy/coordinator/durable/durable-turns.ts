/**
 * Whose turn it is at the disk of persist.to, and how long anybody waits for it.
 *
 *     background work ──▶ it ends, or is ended ──▶ a turn ──▶ the next turn ──▶ … ──▶ background work again
 *                                                   │
 *                                                   └─ its time is over: what it has begun is ended ─┐
 *                                                         nobody waits for it, and it lingers ◀──────┘
 *
 * A disk that hangs lets nobody who waits for it go, killed or not. So nobody waits here for longer than his
 * time: what was begun goes on by itself, and until it has ended the disk is silent to all others.
 */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import { type Failure, UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';

/** For a process that was killed to be gone. */
const DEATH_LIMIT_MS = 1_000;

/** Someone's turn. */
export interface Turn {
  /** Nobody waits for its outcome any more. */
  readonly isLate: boolean;
}

export interface DiskUse {
  /** Has what is under way in the background end. @returns when it has */
  pause(): Promise<void>;
  /** It may go on; told after every turn. */
  resume(): void;
  /** Ends what a turn has begun. */
  end(): void;
  /** For how long a process that asked the disk has had no answer; undefined if none waits. */
  silentMs(): number | undefined;
}

export class DurableTurns {
  readonly #use: DiskUse;
  readonly #log: Logger;
  readonly #ending: AbortSignal;
  readonly #limit = pLimit(1);
  #wanted = 0;
  /** Since when something goes on that nobody waits for any more. */
  #lingersSince: Date | undefined;

  /** @param ending aborted (with an UmbraError), nobody waits any more */
  constructor(use: DiskUse, log: Logger, ending: AbortSignal) {
    this.#use = use;
    this.#log = log;
    this.#ending = ending;
  }

  /** Somebody has it, or waits for it: the background has to let go. */
  get isWanted(): boolean {
    return this.#wanted > 0;
  }

  /** E_DURABLE_SILENT, while whoever asks the disk would wait. */
  get silence(): UmbraError | undefined {
    const silentMs = this.#use.silentMs();
    const since =
      silentMs === undefined ? this.#lingersSince : new Date(Math.floor(Date.now() - silentMs));
    if (since === undefined) return undefined;
    const message = `the disk of persist.to has not answered since ${since.toISOString()}`;
    return new UmbraError({ code: 'E_DURABLE_SILENT', message });
  }

  /**
   * Has the disk to itself, for so long. What persists then is ended; what does not end lingers, and until
   * it has, nobody else is let to the disk.
   * @throws UmbraError `late`, why it is ending, or what went wrong
   */
  async take(limitMs: number, work: (turn: Turn) => Promise<void>, late: Failure): Promise<void> {
    const begun = new Date();
    const turn = { hasBegun: false, isLate: false };
    const told = () => (this.#ending.aborted ? this.#ending.reason : new UmbraError(late));
    const working = this.#alone(async () => {
      if (turn.isLate) throw told(); // who had the disk before has left no time
      turn.hasBegun = true;
      await work(turn);
    });
    if (await settles(working, limitMs, this.#ending)) return working;
    turn.isLate = true;
    if (turn.hasBegun) this.#use.end();
    if (await settles(working, DEATH_LIMIT_MS)) {
      return working.catch((cause: unknown) => {
        throw new UmbraError(told().failure, cause);
      });
    }
    this.linger(
      begun,
      working.catch((err: unknown) =>
        this.#log.warn({ err }, 'what waited for the disk has ended'),
      ),
    );
    throw told();
  }

  /** Nobody waits for this any more; the disk is silent until it settles. */
  linger(since: Date, working: Promise<void>): void {
    this.#lingersSince = since;
    void working.finally(() => {
      this.#lingersSince = undefined;
    });
  }

  /** One after the other. */
  async #alone(work: () => Promise<void>): Promise<void> {
    this.#wanted++;
    try {
      await this.#limit(async () => {
        await this.#use.pause();
        await work();
      });
    } finally {
      this.#wanted--;
      this.#use.resume();
    }
  }
}
