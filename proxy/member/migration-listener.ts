/** A unix socket that takes exactly one connection: QEMU's outgoing migration. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { UmbraError } from '../failure.ts';

export class MigrationListener {
  readonly path: string;
  readonly #server: Server;
  #socket: Socket | undefined;

  /**
   * @param path in a folder only we can enter
   * @param onStream called once; the socket is paused
   */
  static async open(path: string, onStream: (socket: Socket) => void): Promise<MigrationListener> {
    rmSync(path, { force: true });
    const listener = new MigrationListener(path, onStream);
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

  private constructor(path: string, onStream: (socket: Socket) => void) {
    this.path = path;
    // QEMU half-closes nothing: with the return path open it waits for us, so neither may we.
    const options = { allowHalfOpen: true, pauseOnConnect: true };
    this.#server = createServer(options, (socket) => {
      if (this.#socket !== undefined) {
        socket.destroy();
        return;
      }
      this.#socket = socket;
      this.#server.close();
      onStream(socket);
    });
  }

  /** Closes listener and stream. Without a vote QEMU takes this as a failed migration. */
  close(): void {
    this.#server.close();
    this.#socket?.destroy();
    rmSync(this.path, { force: true });
  }
}
