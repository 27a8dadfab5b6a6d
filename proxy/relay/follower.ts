/**
 * Follows a main channel as it goes by: how much memory there is, how much of it has been sent once,
 * whether the VM stands by now. What it cannot read it says, and looks no further; the bytes are
 * relayed all the same.
 *
 *     FOLLOWS ──RAM END──▶ DONE          the VM stands; device state is nobody's business
 *        ├──unreadable──▶ BLIND          postcopy, a device that streams
 *        └──a copy is taken──▶ DONE      that reads all of it (shadow-copy.ts)
 */
import { PrecopyDecoder } from '../stream/decoder.ts';
import { CountingSink } from './counting-sink.ts';

export class Follower {
  readonly sink = new CountingSink();
  readonly #decoder = new PrecopyDecoder(this.sink);
  #trouble: string | undefined;

  get counters() {
    return this.#decoder.counters;
  }

  /** Why it follows no longer, if it does not. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  write(chunk: Uint8Array): void {
    if (this.#trouble !== undefined || this.sink.ramEnded) return;
    try {
      this.#decoder.write(chunk);
    } catch (error) {
      this.#trouble = (error as Error).message;
    }
  }
}
