/**
 * One relayed connection: a source's socket, one of ours to the destination, and a flow each way.
 *
 *     CONNECTING ──▶ OPEN ──end of both──▶ CLOSED
 *         └────────────┴───error, reset──▶ DEAD      both sides are reset
 *
 * A reset is passed on as a reset, where the kernel knows one (TCP): an orderly end would tell QEMU
 * that its peer has finished.
 */
import { Socket } from 'node:net';
import { type Failure, UmbraError } from '../failure/failure.ts';
import { type Address, formatAddress } from './address.ts';
import { type ChannelKind, classify, MARK_BYTES } from './classify.ts';
import { Flow } from './flow.ts';
import type { Inlet } from './inlet.ts';
import { IN_FLIGHT_BYTES } from './limits.ts';

const CONNECT_LIMIT_MS = 10_000;
/** A peer that vanished without a word is found out by the kernel after this and ten seconds. */
const KEEP_ALIVE_MS = 10_000;

export interface ChannelEvents {
  /** Its first bytes have come. */
  readonly onKind: (kind: ChannelKind) => void;
  /** From the source; begins with the first byte, after `onKind`. */
  readonly onSourceChunk: (chunk: Buffer) => void;
  readonly onSourceEnd: () => void;
  readonly onTargetChunk: (chunk: Buffer) => void;
  readonly onDead: (failure: Failure) => void;
  /** Both sockets are gone; the last event. */
  readonly onClosed: () => void;
}

export class Channel {
  readonly #source: Socket;
  readonly #target: Socket;
  readonly #events: ChannelEvents;
  readonly up: Flow;
  readonly down: Flow;
  #kind: ChannelKind | undefined;
  /** What came before there was enough to tell the kind. */
  #mark: Buffer[] = [];
  #connected = false;
  #failure: Failure | undefined;
  #open = 2;
  #pending = [0, 0];
  #movedAt = performance.now();

  constructor(inlet: Inlet, events: ChannelEvents) {
    const source = inlet.socket;
    this.#source = source;
    this.#events = events;
    const options = { allowHalfOpen: true, highWaterMark: IN_FLIGHT_BYTES };
    this.#target = new Socket(options);
    this.up = new Flow(inlet, this.#target, {
      onChunk: (chunk) => this.#onSourceChunk(chunk),
      onEnd: () => {
        this.#tell();
        events.onSourceEnd();
      },
    });
    this.down = new Flow(this.#target, source, {
      onChunk: events.onTargetChunk,
      onEnd: () => {},
    });
    source.once('error', (error: NodeJS.ErrnoException) => this.#lost('source', error));
    this.#target.once('error', (error: NodeJS.ErrnoException) => this.#lost('target', error));
    for (const socket of [source, this.#target]) {
      socket.on('error', () => {}); // one that follows from the first
      socket.once('close', () => this.#onSocketClosed());
    }
  }

  get kind(): ChannelKind | undefined {
    return this.#kind;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Resolves when the destination has accepted, or the channel is dead. Never rejects. */
  async connect(address: Address): Promise<void> {
    if (this.#failure !== undefined) return;
    const target = this.#target;
    const { promise: settled, resolve } = deferred();
    const timer = setTimeout(() => {
      const message = `${formatAddress(address)} did not answer in ${CONNECT_LIMIT_MS} ms`;
      this.die({ code: 'E_RELAY_TARGET', message });
    }, CONNECT_LIMIT_MS);
    target.once('connect', () => {
      this.#connected = true;
      for (const socket of [this.#source, target]) {
        socket.setNoDelay(true);
        socket.setKeepAlive(true, KEEP_ALIVE_MS);
      }
      this.up.open();
      this.down.open();
      resolve();
    });
    target.once('close', resolve);
    target.connect(address.kind === 'unix' ? { path: address.path } : address);
    await settled;
    clearTimeout(timer);
  }

  /** Resets both sides. Idempotent: the first reason stays. */
  die(failure: Failure): void {
    if (this.#failure !== undefined || this.#open === 0) return;
    this.#failure = new UmbraError(failure).failure;
    reset(this.#source);
    reset(this.#target);
    this.#events.onDead(this.#failure);
  }

  /**
   * Is one side unable to move what the other has sent?
   * @returns for how long it has been, milliseconds
   */
  stalledMs(now: number): number {
    const pending = [this.up.pendingBytes, this.down.pendingBytes];
    const moved = pending.every((bytes, at) => bytes === 0 || bytes !== this.#pending[at]);
    if (moved) this.#movedAt = now;
    this.#pending = pending;
    return now - this.#movedAt;
  }

  #onSourceChunk(chunk: Buffer): void {
    if (this.#kind !== undefined) {
      this.#events.onSourceChunk(chunk);
      return;
    }
    this.#mark.push(Buffer.from(chunk));
    const length = this.#mark.reduce((sum, one) => sum + one.length, 0);
    if (length >= MARK_BYTES) this.#tell();
  }

  /** Tells kind and first bytes, also of a connection that ended before there were enough. */
  #tell(): void {
    if (this.#kind !== undefined) return;
    const first = Buffer.concat(this.#mark);
    this.#mark = [];
    const kind = classify(first) ?? 'other';
    this.#events.onKind(kind); // which migration's it is depends on the others' kinds
    this.#kind = kind;
    if (first.length > 0) this.#events.onSourceChunk(first);
  }

  #lost(side: 'source' | 'target', error: NodeJS.ErrnoException): void {
    const why = error.code ?? error.message;
    if (side === 'source') {
      this.die({ code: 'E_RELAY_SOURCE_LOST', message: `the source’s connection broke: ${why}` });
    } else if (this.#connected) {
      const message = `the destination’s connection broke: ${why}`;
      this.die({ code: 'E_RELAY_TARGET_LOST', message });
    } else {
      this.die({ code: 'E_RELAY_TARGET', message: `the destination does not answer: ${why}` });
    }
  }

  #onSocketClosed(): void {
    this.#open--;
    if (this.#open === 0) this.#events.onClosed();
  }
}

/** A unix socket has no reset: closing it with bytes unread is what its peer sees as one. */
function reset(socket: Socket): void {
  if (socket.destroyed) return;
  const isTcp = socket.remotePort !== undefined;
  if (isTcp && !socket.connecting) socket.resetAndDestroy();
  else socket.destroy();
}

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
