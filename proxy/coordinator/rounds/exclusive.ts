/**
 * Runs one job at a time. A second caller fails with E_ROUND_BUSY, unless the first is brief:
 *
 *     run      admission ──admitted──▶ the work itself        brief    the work itself
 *     2nd:     waits                   is refused                      waits
 *
 * A caller waits for at most PATIENCE_MS: a brief job that takes longer refuses it like any other.
 */
import { UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';

/** An admission asks every QEMU something: some take a second on a busy host. */
const PATIENCE_MS = 5_000;

export class Exclusive {
  #busy: string | undefined;
  #work: Promise<unknown> = Promise.resolve();
  /** The job under way is brief, or is being admitted. */
  #isBrief = false;
  /** Callers that wait for its end. */
  readonly #waiting: (() => void)[] = [];
  #ending = false;
  readonly #patienceMs: number;

  /** @param patienceMs how long a caller waits for a brief job */
  constructor(patienceMs = PATIENCE_MS) {
    this.#patienceMs = patienceMs;
  }

  /** Returns the job under way, if there is one. */
  get busy(): string | undefined {
    return this.#busy;
  }

  /**
   * @param admit comes before the work, and forbids it by throwing
   * @throws UmbraError E_ROUND_BUSY, E_DAEMON_ENDING
   */
  async run<T>(what: string, work: () => Promise<T>, admit?: () => Promise<void>): Promise<T> {
    while (this.#isBrief) {
      const over = new Promise<void>((done) => this.#waiting.push(done));
      if (!(await settles(over, this.#patienceMs))) break;
    }
    this.requireGoingOn();
    if (this.#busy !== undefined) {
      const message = `the cluster is busy with another ${this.#busy}`;
      throw new UmbraError({ code: 'E_ROUND_BUSY', message });
    }
    if (admit === undefined) return this.#occupy(what, work);
    return this.#occupy(what, async () => {
      this.#isBrief = true;
      await admit();
      this.#endBrief();
      return work();
    });
  }

  /**
   * Runs a brief job once no other is under way. Callers wait for it, instead of being refused.
   * @throws UmbraError E_DAEMON_ENDING
   */
  async brief<T>(what: string, work: () => Promise<T>): Promise<T> {
    while (this.#busy !== undefined) await this.settled();
    this.requireGoingOn();
    this.#isBrief = true;
    return this.#occupy(what, work);
  }

  async #occupy<T>(what: string, work: () => Promise<T>): Promise<T> {
    this.#busy = what;
    const running = work();
    this.#work = running;
    try {
      return await running;
    } finally {
      this.#busy = undefined;
      this.#endBrief();
    }
  }

  #endBrief(): void {
    this.#isBrief = false;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Resolves when the job under way has ended; its caller gets the outcome. */
  async settled(): Promise<void> {
    await this.#work.catch(() => {});
  }

  /** Refuses every job from now on. */
  end(): void {
    this.#ending = true;
  }

  /** @throws UmbraError E_DAEMON_ENDING */
  requireGoingOn(): void {
    if (!this.#ending) return;
    throw new UmbraError({ code: 'E_DAEMON_ENDING', message: 'the daemon is ending' });
  }
}
