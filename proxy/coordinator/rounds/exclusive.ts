/**
 * One thing at a time. Whoever comes meanwhile is refused, unless what goes on is over in an instant:
 *
 *     run      admission ──admitted──▶ the work itself        brief    the work itself
 *     comes:   waits                   is refused                      waits
 *
 * Nobody waits for long: what ought to be over and is not is as good as any other work.
 */
import { UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';

/** An admission asks every QEMU something: some take a second on a busy host. */
const PATIENCE_MS = 5_000;

export class Exclusive {
  #busy: string | undefined;
  #work: Promise<unknown> = Promise.resolve();
  /** What goes on is over, or admitted, in an instant. */
  #isBrief = false;
  /** Who waits for that. */
  readonly #waiting: (() => void)[] = [];
  #ending = false;
  readonly #patienceMs: number;

  /** @param patienceMs for how long one waits for what is over in an instant */
  constructor(patienceMs = PATIENCE_MS) {
    this.#patienceMs = patienceMs;
  }

  /** What goes on, if anything does. */
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
   * Work that is over in an instant: nobody is refused for it. Waits until nothing else goes on.
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

  /** Resolves when what goes on now has ended, well or not: whoever asked for it hears of that. */
  async settled(): Promise<void> {
    await this.#work.catch(() => {});
  }

  /** From here on, nothing more is taken on. */
  end(): void {
    this.#ending = true;
  }

  /** @throws UmbraError E_DAEMON_ENDING */
  requireGoingOn(): void {
    if (!this.#ending) return;
    throw new UmbraError({ code: 'E_DAEMON_ENDING', message: 'the daemon is ending' });
  }
}
