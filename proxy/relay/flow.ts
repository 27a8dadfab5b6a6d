/**
 * One direction of a relayed connection: what is read from one socket is written to the other.
 *
 *     FLOWS ◀──────▶ PRESSED       the other side takes no more: nothing is read until it does
 *       │ ▲
 *       ▼ │
 *     TRICKLES                     held: a chunk at intervals, so that the follower misses nothing
 *
 * End of stream is passed on as such (half-close); errors are the channel's (channel.ts).
 */
import type { Socket } from 'node:net';
import { Inlet } from './inlet.ts';

/** Interval at which a held stream moves by a chunk (1 MiB at most): 5 MiB/s at most. */
const SIP_INTERVAL_MS = 200;
/** Silence after which a held source has no bytes ready: it is not waiting for the relay. */
const SILENCE_MS = 1_000;

export interface FlowEvents {
  /** Shows a chunk that was passed on. It is a view: its memory is used again after the call. */
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
  /** Time since which a chunk has been waited for, by performance.now(). */
  #sipAt: number | undefined;

  /** @param source an inlet for the direction with much to read */
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

  /** Returns the bytes read and not yet taken by the kernel for the other side. */
  get pendingBytes(): number {
    return this.#to.writableLength;
  }

  /** Returns true if it is held and nothing has come for SILENCE_MS. */
  get isSilent(): boolean {
    return this.#sipAt !== undefined && performance.now() - this.#sipAt >= SILENCE_MS;
  }

  /** Starts the flow: both sockets are connected. */
  open(): void {
    this.#open = true;
    this.#readOrWait();
  }

  /**
   * Stops reading altogether. Only briefly: a source with a stopped VM must not be kept waiting.
   */
  stop(): void {
    this.#stopped = true;
    this.#readOrWait();
  }

  go(): void {
    this.#stopped = false;
    this.#readOrWait();
  }

  /** Lets it trickle from now on. Idempotent. */
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
