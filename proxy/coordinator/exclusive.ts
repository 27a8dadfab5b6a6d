/** One thing at a time: whoever comes meanwhile is refused, or waits for it to end. */
import { UmbraError } from '../failure.ts';

export class Exclusive {
  #busy: string | undefined;
  #work: Promise<unknown> = Promise.resolve();
  #ending = false;

  /** What goes on, if anything does. */
  get busy(): string | undefined {
    return this.#busy;
  }

  /** @throws UmbraError E_ROUND_BUSY, E_DAEMON_ENDING */
  async run<T>(what: string, work: () => Promise<T>): Promise<T> {
    this.requireGoingOn();
    if (this.#busy !== undefined) {
      const message = `the cluster is busy with another ${this.#busy}`;
      throw new UmbraError({ code: 'E_ROUND_BUSY', message });
    }
    this.#busy = what;
    const running = work();
    this.#work = running;
    try {
      return await running;
    } finally {
      this.#busy = undefined;
    }
  }

  /** Waits until nothing else goes on. @throws UmbraError E_DAEMON_ENDING */
  async whenFree<T>(what: string, work: () => Promise<T>): Promise<T> {
    while (this.#busy !== undefined) await this.settled();
    return this.run(what, work);
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
