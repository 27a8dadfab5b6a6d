/**
 * The source of a flow's bytes: a socket, read into buffers that are used again.
 *
 *     free ──the kernel reads into it──▶ lent, until the other side has taken it ──▶ free
 */
import type { Socket } from 'node:net';
import { adoptSocket } from '../host/adopted-socket.ts';
import { IN_FLIGHT_BYTES } from './limits.ts';

/** Large buffers: source, relay and destination switch on the cores less often. */
const BUFFER_BYTES = 2 ** 20;
const BUFFERS = IN_FLIGHT_BYTES / BUFFER_BYTES;

/** A listener of bytes. `chunk` is the listener's until it calls `release`. */
export type OnBytes = (chunk: Buffer, release: () => void) => void;

export class Inlet {
  readonly socket: Socket;
  readonly #free: Buffer[] = [];
  #lent = 0;
  #onBytes: OnBytes = (_, release) => release();

  /** @param accepted a paused socket; the caller must not use it any more */
  constructor(accepted: Socket) {
    this.socket = adoptSocket(accepted, {
      highWaterMark: IN_FLIGHT_BYTES,
      buffer: () => this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES),
      onBytes: (count, buffer) => this.#take(count, buffer),
    });
  }

  onBytes(listener: OnBytes): void {
    this.#onBytes = listener;
  }

  /** Returns true while so much is lent that nothing more may be read. */
  get isStarved(): boolean {
    return this.#lent >= BUFFERS;
  }

  #take(count: number, buffer: Buffer): void {
    this.#lent++;
    let released = false;
    this.#onBytes(buffer.subarray(0, count), () => {
      if (released) return;
      released = true;
      this.#lent--;
      if (this.#free.length < BUFFERS) this.#free.push(buffer);
    });
  }
}
