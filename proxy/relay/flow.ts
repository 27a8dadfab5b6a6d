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
import { Inlet } from './inlet.ts';

/** Held streams move by a chunk (1 MiB at most) this often: 5 MiB/s at most. */
const SIP_INTERVAL_MS = 200;
/** A source that waits for us has bytes ready: one that is silent for so long does not. */
const SILENCE_MS = 1_000;

export interface FlowEvents {
  /** After the chunk was handed on. It dies with the call: its memory is used again. */
  readonly onChunk: (chunk: Buffer) => void;
  readonly onEnd: () => void;
}

export class Flow {
  readonly #from: Socket;
  readonly #inlet: Inlet | undefined;
  readonly #to: Socket;
  readonly #events: FlowEvents;
  #bytes = 0;
  #open = false;
  #stopped = false;
  #pressed = false;
  #sips: NodeJS.Timeout | undefined;
  /** Since when a chunk has been waited for, by performance.now(). */
  #sipAt: number | undefined;

  /** @param source an inlet where much is to be read */
  constructor(source: Inlet | Socket, to: Socket, events: FlowEvents) {
    const from = source instanceof Inlet ? source.socket : source;
    this.#from = from;
    this.#inlet = source instanceof Inlet ? source : undefined;
    this.#to = to;
    this.#events = events;
    if (source instanceof Inlet) source.onBytes((chunk, release) => this.#take(chunk, release));
    else source.on('data', (chunk: Buffer) => this.#take(chunk));
    from.once('end', () => {
      this.free();
      to.end();
      events.onEnd();
    });
    from.once('close', () => this.free());
    to.on('drain', () => {
      this.#pressed = false;
      this.#readOrWait();
    });
  }

  #take(chunk: Buffer, release?: () => void): void {
    this.#bytes += chunk.length;
    this.#sipAt = undefined;
    const taken = () => {
      release?.();
      this.#readOrWait();
    };
    if (!this.#to.write(chunk, taken)) this.#pressed = true;
    this.#events.onChunk(chunk);
    this.#readOrWait();
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes read and not yet taken by the kernel for the other side. */
  get pendingBytes(): number {
    return this.#to.writableLength;
  }

  /** It is held, and there has been nothing to hold for a while. */
  get isSilent(): boolean {
    return this.#sipAt !== undefined && performance.now() - this.#sipAt >= SILENCE_MS;
  }

  /** Both sockets are connected. */
  open(): void {
    this.#open = true;
    this.#readOrWait();
  }

  /** Nothing is read at all. Only for a moment: a source that stands must not be kept waiting. */
  stop(): void {
    this.#stopped = true;
    this.#readOrWait();
  }

  go(): void {
    this.#stopped = false;
    this.#readOrWait();
  }

  /** It trickles from now on. Idempotent. */
  hold(): void {
    if (this.#sips !== undefined || this.#from.readableEnded || this.#from.destroyed) return;
    this.#sips = setInterval(() => {
      if (!this.#open || this.#stopped || this.#pressed) return;
      this.#sipAt ??= performance.now();
      this.#readOrWait();
    }, SIP_INTERVAL_MS);
    this.#readOrWait();
  }

  /** Ends `hold`. Idempotent. */
  free(): void {
    if (this.#sips === undefined) return;
    clearInterval(this.#sips);
    this.#sips = undefined;
    this.#sipAt = undefined;
    this.#readOrWait();
  }

  #readOrWait(): void {
    const held = this.#sips !== undefined && this.#sipAt === undefined;
    const full = this.#pressed || this.#inlet?.isStarved === true;
    if (this.#open && !this.#stopped && !full && !held) this.#from.resume();
    else this.#from.pause();
  }
}
