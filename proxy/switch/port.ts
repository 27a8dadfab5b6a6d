import { connect, type Socket } from 'node:net';
import { FrameDecoder } from './frames.ts';

/** Most bytes that wait for a guest that does not read (it is stopped); more frames are dropped. */
export const QUEUE_BYTES_MAX = 512 * 1024;

/** Pause before a lost guest is dialled again: doubles from the least to the most. */
const REDIAL_MS_MIN = 10;
const REDIAL_MS_MAX = 100;

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
  #redialMs = REDIAL_MS_MIN;
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

  /** Sends a frame, or drops it, as a switch does: the guests' protocols retransmit. */
  send(wire: Buffer): void {
    const socket = this.#socket;
    if (!this.#connected || socket === undefined) {
      this.#framesDropped++;
      return;
    }
    if (socket.writableLength + wire.length > QUEUE_BYTES_MAX) {
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
      this.#redialMs = REDIAL_MS_MIN;
    });
    socket.on('data', (chunk: Buffer) => {
      try {
        decoder.write(chunk);
      } catch (error) {
        // Not a frame stream (any more): start over with a new connection.
        socket.destroy(error as Error);
      }
    });
    // 'close' follows.
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
    this.#redialMs = Math.min(this.#redialMs * 2, REDIAL_MS_MAX);
  }
}
