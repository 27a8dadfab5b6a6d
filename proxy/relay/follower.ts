/**
 * Follows a main channel as it passes: how much memory there is, how much of it was sent once,
 * whether the VM is stopped by now. If it cannot read the stream it gives the reason and stops
 * following; the bytes are relayed all the same.
 *
 *     FOLLOWS ──RAM END──▶ DONE          the VM is stopped; device state is not followed
 *        ├──unreadable──▶ BLIND          postcopy, a device that streams
 *        └──a copy is taken──▶ DONE      the copy reads all of it (shadow-copy.ts)
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

  /** Returns why it no longer follows; undefined while it does. */
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
