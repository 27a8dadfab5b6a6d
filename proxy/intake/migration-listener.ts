/** A unix socket that takes exactly one connection: QEMU's outgoing migration. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { UmbraError } from '../failure/failure.ts';
import { adoptSocket } from '../host/adopted-socket.ts';

/** More than a unix socket holds by default (net.core.wmem_default), so that a read empties it. */
const BUFFER_BYTES = 256 * 1024;

export interface StreamEvents {
  /**
   * Called once, with a paused socket. It stays half-open when QEMU ends its side: QEMU then waits
   * for our vote.
   */
  readonly onStream: (socket: Socket) => void;
  /** Called with what was read. The bytes are gone when it returns. */
  readonly onBytes: (chunk: Buffer) => void;
  /** Returns the most bytes the next read may take. Called after every read; 0 while paused. */
  readonly room?: () => number;
}

export class MigrationListener {
  readonly path: string;
  readonly #server: Server;
  #socket: Socket | undefined;

  /**
   * @param path in a folder only we can enter
   * @throws UmbraError E_LISTEN
   */
  static async open(path: string, events: StreamEvents): Promise<MigrationListener> {
    rmSync(path, { force: true });
    const listener = new MigrationListener(path, events);
    await new Promise<void>((resolve, reject) => {
      listener.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const message = `cannot listen on ${path}: ${cause.code}`;
        reject(new UmbraError({ code: 'E_LISTEN', message }, cause));
      });
      listener.#server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
    return listener;
  }

  private constructor(path: string, { onStream, onBytes, room }: StreamEvents) {
    this.path = path;
    this.#server = createServer({ pauseOnConnect: true }, (socket) => {
      if (this.#socket !== undefined) {
        socket.destroy();
        return;
      }
      const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
      this.#socket = adoptSocket(socket, {
        buffer: () => {
          const most = room?.() ?? BUFFER_BYTES;
          return most > 0 && most < BUFFER_BYTES ? buffer.subarray(0, most) : buffer;
        },
        onBytes: (count) => onBytes(buffer.subarray(0, count)),
      });
      this.#server.close();
      onStream(this.#socket);
    });
  }

  /** Closes listener and stream. Without a vote QEMU takes this as a failed migration. */
  close(): void {
    this.#server.close();
    this.#socket?.destroy();
    rmSync(this.path, { force: true });
  }
}
