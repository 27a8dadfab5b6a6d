/**
 * An accepted socket that is read into buffers of ours, again and again. Node's own streams allocate
 * 64 KiB for each read: at gigabytes a second that keeps V8's collector busy, and the kernel clearing
 * pages that malloc has just given back.
 *
 *     accepted socket ──its handle──▶ socket with `onread`
 *
 * Only a socket's constructor takes `onread`, and a server constructs its own; hence the handle moves.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';

/** Where the kernel writes, and what is told of it. */
export interface Reads {
  /** Asked before every read. */
  readonly buffer: () => Buffer;
  /** `count` bytes are in the buffer. To stop the next read, pause the socket. */
  readonly onBytes: (count: number, buffer: Buffer) => void;
  /** Bytes of its writing side beyond which it asks for a pause. */
  readonly highWaterMark?: number;
}

/** What Node takes besides what it documents; the same in every version since 12. */
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
 * @param accepted by a server with `pauseOnConnect`, so that nothing has been read; destroyed
 * @returns the connection, paused. It emits no 'data', and stays half-open when the peer ends its side
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
