/**
 * One relayed connection: the source's socket, the relay's own to the destination, a flow each way.
 *
 *     CONNECTING ──▶ OPEN ──end of both──▶ CLOSED
 *         └────────────┴───error, reset──▶ DEAD      both sides are reset
 *
 * A reset is passed on as a reset where the kernel has one (TCP): an orderly end would tell QEMU
 * that its peer has finished.
 */
import { Socket } from 'node:net';
import { type Failure, UmbraError } from '../failure/failure.ts';
import { type Address, formatAddress } from '../host/address.ts';
import { type ChannelKind, classify, MARK_BYTES } from './classify.ts';
import { Flow } from './flow.ts';
import type { Inlet } from './inlet.ts';
import { IN_FLIGHT_BYTES } from './limits.ts';

const CONNECT_LIMIT_MS = 10_000;
/** Silence after which the kernel probes a peer; ten seconds later a vanished one is found out. */
const KEEP_ALIVE_MS = 10_000;

export interface ChannelEvents {
  /** Reports the kind of the connection, told by its first bytes. */
  readonly onKind: (kind: ChannelKind) => void;
  /** Passes on the source's bytes, from the first one, after `onKind`. */
  readonly onSourceChunk: (chunk: Buffer) => void;
  readonly onSourceEnd: () => void;
  readonly onTargetChunk: (chunk: Buffer) => void;
  readonly onDead: (failure: Failure) => void;
  /** Reports that both sockets are closed; the last event. */
  readonly onClosed: () => void;
}

export class Channel {
  readonly #source: Socket;
  readonly #target: Socket;
  readonly #events: ChannelEvents;
  readonly up: Flow;
  readonly down: Flow;
  #kind: ChannelKind | undefined;
  /** Bytes that came before there were enough to tell the kind. */
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
        this.#reportKind();
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
      socket.on('error', () => {}); // it follows from the first
      socket.once('close', () => this.#onSocketClosed());
    }
  }

  get kind(): ChannelKind | undefined {
    return this.#kind;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Connects to the destination. Resolves when it accepts or the channel dies; never rejects. */
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
    this.#failure = UmbraError.received(failure).failure;
    reset(this.#source);
    reset(this.#target);
    this.#events.onDead(this.#failure);
  }

  /** Returns for how long one side has taken none of the bytes of the other, milliseconds. */
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
    if (length >= MARK_BYTES) this.#reportKind();
  }

  /** Reports kind and first bytes, even if the connection ended before there were enough. */
  #reportKind(): void {
    if (this.#kind !== undefined) return;
    const first = Buffer.concat(this.#mark);
    this.#mark = [];
    const kind = classify(first) ?? 'other';
    this.#events.onKind(kind); // its migration is chosen by the kinds of the others
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

/** Resets a connection. A unix socket has no reset: its peer sees one if bytes were left unread. */
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
