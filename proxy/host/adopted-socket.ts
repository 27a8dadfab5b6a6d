/**
 * An accepted socket whose reads go into buffers that are used again and again. Node's own streams
 * allocate 64 KiB for each read: at gigabytes a second that keeps V8's garbage collector busy, and
 * the kernel with clearing pages that malloc has just given back.
 *
 *     accepted socket ──its handle──▶ socket with `onread`
 *
 * Only the constructor of a socket takes `onread`, and a server constructs its sockets itself. So
 * the handle moves to a new one.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';

/** The receiver of what a socket reads. */
export interface Reads {
  /** Returns the buffer for the next read; called before every read. */
  readonly buffer: () => Buffer;
  /** Takes `count` bytes of the buffer. To stop the next read, pause the socket. */
  readonly onBytes: (count: number, buffer: Buffer) => void;
  /** Bytes not yet sent at which `write` returns false. */
  readonly highWaterMark?: number;
}

/** Options of Node that it does not document; the same in every version since 12. */
interface HandleOptions extends SocketConstructorOpts {
  readonly handle: object;
  readonly pauseOnCreate: boolean;
  readonly highWaterMark?: number;
  readonly onread: {
    readonly buffer: () => Uint8Array;
    readonly callback: (count: number, buffer: Uint8Array) => boolean;
  };
}

/**
 * Moves an accepted connection to a socket that reads into given buffers.
 * @param accepted a socket of a server with `pauseOnConnect`, so that nothing has been read from
 * it; it is destroyed
 * @returns the connection, paused. It emits no 'data', and stays half-open when the peer ends its
 * side
 */
export function adoptSocket(accepted: Socket, { buffer, onBytes, highWaterMark }: Reads): Socket {
  const owner = accepted as unknown as { _handle?: object | null };
  const handle = owner._handle;
  if (handle === undefined || handle === null) throw new Error('a socket without a handle');
  owner._handle = null;
  accepted.destroy();
  const options: HandleOptions = {
    handle,
    allowHalfOpen: true,
    readable: true,
    writable: true,
    pauseOnCreate: true,
    ...(highWaterMark !== undefined && { highWaterMark }),
    onread: {
      buffer,
      callback: (count, filled) => {
        onBytes(count, filled as Buffer);
        return true;
      },
    },
  };
  return new Socket(options);
}
