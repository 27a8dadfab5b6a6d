/**
 * Where a flow's bytes come from: a socket, read into buffers of ours that are used again.
 *
 *     free ──kernel reads into it──▶ lent, until the other side has taken it ──▶ free
 */
import type { Socket } from 'node:net';
import { adoptSocket } from '../host/adopted-socket.ts';
import { IN_FLIGHT_BYTES } from './limits.ts';

/** Large ones: source, relay and destination take turns on the cores less often. */
const BUFFER_BYTES = 2 ** 20;
const BUFFERS = IN_FLIGHT_BYTES / BUFFER_BYTES;

/** @param chunk the listener's until it calls `release` */
export type OnBytes = (chunk: Buffer, release: () => void) => void;

export class Inlet {
  readonly socket: Socket;
  readonly #free: Buffer[] = [];
  #lent = 0;
  #onBytes: OnBytes = (_, release) => release();

  /** @param accepted paused, and no longer to be used */
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

  /** So much is lent that nothing may be read until some is back. */
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
