import { connect, type Socket } from 'node:net';
import { FrameDecoder } from './frames.ts';

/** Bytes waiting for a guest that does not read (it is stopped); frames beyond are dropped. */
export const queueBytesMax = 512 * 1024;

/** A guest that is gone is dialled again and again: at first at once, then ten times a second. */
const redialMsMin = 10;
const redialMsMax = 100;

export interface PortStats {
  readonly path: string;
  readonly connected: boolean;
  readonly connects: number;
  readonly framesIn: number;
  readonly framesOut: number;
  readonly framesDropped: number;
}

export interface PortEvents {
  /** `wire` is a frame with its length field, a view that is valid until the call returns. */
  readonly onFrame: (wire: Buffer) => void;
  readonly onDown: () => void;
}

/** One cable: dials a guest's network socket and keeps dialling whenever it is lost. */
export class Port {
  readonly path: string;
  readonly #events: PortEvents;
  #socket: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #redialMs = redialMsMin;
  #connected = false;
  #closed = false;
  #connects = 0;
  #framesIn = 0;
  #framesOut = 0;
  #framesDropped = 0;

  constructor(path: string, events: PortEvents) {
    this.path = path;
    this.#events = events;
  }

  start(): void {
    if (!this.#closed && this.#socket === undefined) this.#dial();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  /** Sends or drops, as a switch does; whoever needs the data will send it again. */
  send(wire: Buffer): void {
    const socket = this.#socket;
    if (!this.#connected || socket === undefined) {
      this.#framesDropped++;
      return;
    }
    if (socket.writableLength + wire.length > queueBytesMax) {
      this.#framesDropped++;
      return;
    }
    this.#framesOut++;
    // The view dies with the caller's callback, and the socket may have to keep it.
    socket.write(Buffer.from(wire));
  }

  get stats(): PortStats {
    return {
      path: this.path,
      connected: this.#connected,
      connects: this.#connects,
      framesIn: this.#framesIn,
      framesOut: this.#framesOut,
      framesDropped: this.#framesDropped,
    };
  }

  #dial(): void {
    const socket = connect(this.path);
    this.#socket = socket;
    const decoder = new FrameDecoder((wire) => {
      this.#framesIn++;
      this.#events.onFrame(wire);
    });
    socket.on('connect', () => {
      this.#connected = true;
      this.#connects++;
      this.#redialMs = redialMsMin;
    });
    socket.on('data', (chunk: Buffer) => {
      try {
        decoder.write(chunk);
      } catch (error) {
        // Not a frame stream (any more): start over with a new connection.
        socket.destroy(error as Error);
      }
    });
    // 'close' follows and does what is to be done.
    socket.on('error', () => {});
    socket.on('close', () => this.#lost());
  }

  #lost(): void {
    this.#socket = undefined;
    if (this.#connected) {
      this.#connected = false;
      this.#events.onDown();
    }
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.#dial(), this.#redialMs);
    this.#redialMs = Math.min(this.#redialMs * 2, redialMsMax);
  }
}
