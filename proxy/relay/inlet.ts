/**
 * Where a flow's bytes come from: a socket, read into buffers of ours that are used again.
 *
 *     free ──kernel reads into it──▶ lent, until the other side has taken it ──▶ free
 *
 * A stream of Node's allocates and clears 64 KiB for each read, and reads no more than that at once;
 * that is most of what relaying costs. `onread` spares both, but is offered for outgoing connections
 * only: an accepted one is given a socket of its own around the same handle.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import { IN_FLIGHT_BYTES } from './limits.ts';

/** Large ones: source, relay and destination take turns on the cores less often. */
const BUFFER_BYTES = 2 ** 20;
const BUFFERS = IN_FLIGHT_BYTES / BUFFER_BYTES;

/** @param chunk the listener's until it calls `release` */
export type OnBytes = (chunk: Buffer, release: () => void) => void;

/** What Node takes besides what it documents. */
interface HandleOptions extends SocketConstructorOpts {
  readonly handle: unknown;
  readonly pauseOnCreate: boolean;
  readonly highWaterMark: number;
  readonly onread: {
    readonly buffer: () => Uint8Array;
    readonly callback: (count: number, buffer: Uint8Array) => boolean;
  };
}

export class Inlet {
  readonly socket: Socket;
  readonly #free: Buffer[] = [];
  #lent = 0;
  #onBytes: OnBytes = (_, release) => release();

  /** Takes over an accepted socket, which must be paused and is no longer to be used. */
  static adopt(accepted: Socket): Inlet {
    const owner = accepted as unknown as { _handle: unknown };
    const handle = owner._handle;
    owner._handle = null;
    accepted.destroy();
    return new Inlet(handle);
  }

  private constructor(handle: unknown) {
    const options: HandleOptions = {
      handle,
      allowHalfOpen: true,
      readable: true,
      writable: true,
      pauseOnCreate: true,
      highWaterMark: IN_FLIGHT_BYTES,
      onread: {
        buffer: () => this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES),
        callback: (count, buffer) => {
          this.#take(count, buffer as Buffer);
          return true; // whoever wants it to stop pauses the socket
        },
      },
    };
    this.socket = new Socket(options);
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
