/**
 * One direction of a relayed connection: what is read from one socket is written to the other.
 *
 *     FLOWS ◀──────▶ PRESSED       the other side does not take more: nothing is read until it does
 *       │ ▲
 *       ▼ │
 *     TRICKLES                     held: a chunk now and then, so that the reader stays in the picture
 *
 * End of stream is passed on as such (half-close); errors are the channel's (channel.ts).
 */
import type { Socket } from 'node:net';

/** Held streams move by a chunk (64 KiB at most) this often: 4 MiB/s at most. */
const SIP_INTERVAL_MS = 15;
/** A source that is held has more to send than fits the sockets: silence means it is not waiting. */
const SILENCE_MS = 200;

export interface FlowEvents {
  /** After the chunk was handed on; it must not be written to. */
  readonly onChunk: (chunk: Buffer) => void;
  readonly onEnd: () => void;
}

export class Flow {
  readonly #from: Socket;
  readonly #to: Socket;
  #bytes = 0;
  #open = false;
  #pressed = false;
  #sips: NodeJS.Timeout | undefined;
  /** When the chunk was asked for that is being waited for, by performance.now(). */
  #sipAt: number | undefined;

  constructor(from: Socket, to: Socket, events: FlowEvents) {
    this.#from = from;
    this.#to = to;
    from.on('data', (chunk: Buffer) => {
      this.#bytes += chunk.length;
      this.#sipAt = undefined;
      if (!to.write(chunk)) this.#pressed = true;
      this.#readOrWait();
      events.onChunk(chunk);
    });
    from.once('end', () => {
      clearInterval(this.#sips);
      to.end();
      events.onEnd();
    });
    from.once('close', () => clearInterval(this.#sips));
    to.on('drain', () => {
      this.#pressed = false;
      this.#readOrWait();
    });
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes read and not yet taken by the kernel for the other side. */
  get pendingBytes(): number {
    return this.#to.writableLength;
  }

  /** Both sockets are connected. */
  open(): void {
    this.#open = true;
    this.#readOrWait();
  }

  /** Nothing is read at all. Only for moments: a source that stands must not be kept waiting. */
  close(): void {
    this.#open = false;
    this.#readOrWait();
  }

  /** @param onSilent the source has nothing to send: it does not wait for us, and need not be held */
  hold(onSilent: () => void): void {
    if (this.#sips !== undefined || this.#from.readableEnded || this.#from.destroyed) return;
    this.#sips = setInterval(() => {
      if (!this.#open || this.#pressed) return;
      const now = performance.now();
      this.#sipAt ??= now;
      if (now - this.#sipAt >= SILENCE_MS) onSilent();
      else this.#readOrWait();
    }, SIP_INTERVAL_MS);
    this.#readOrWait();
  }

  /** Ends `hold`. Idempotent. */
  free(): void {
    clearInterval(this.#sips);
    this.#sips = undefined;
    this.#sipAt = undefined;
    this.#readOrWait();
  }

  #readOrWait(): void {
    const held = this.#sips !== undefined && this.#sipAt === undefined;
    if (this.#open && !this.#pressed && !held) this.#from.resume();
    else this.#from.pause();
  }
}
