/**
 * A save image that libvirt restores while it is made: no copy of the memory is ever written anywhere.
 *
 *     we ── head, stream ──▶ FIFO ──┬── libvirtd: the head, then it starts QEMU
 *                                   └── QEMU: the stream
 *
 * It is open for reading and writing by us, so that nobody ever waits in open(2), and a reader that dies is
 * told by `virsh`, not by the pipe. Its name goes before its end does, for the same reason.
 */
import { execFile } from 'node:child_process';
import { openSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { UmbraError } from '../failure/failure.ts';
import { unreadBytes } from '../host/libc.ts';

/** Nothing tells that a pipe was read from. */
const LOOK_AGAIN_MS = 2;

export class SavePipe {
  readonly path: string;
  readonly #fd: number;
  readonly #socket: Socket;

  /**
   * @param path in a folder that only we and libvirt can enter; what is there is replaced
   * @throws UmbraError E_EXPORT
   */
  static async make(path: string): Promise<SavePipe> {
    try {
      await rm(path, { force: true });
      await promisify(execFile)('mkfifo', ['-m', '600', path]);
      return new SavePipe(path);
    } catch (cause) {
      const message = `cannot make the pipe ${path}: ${(cause as Error).message}`;
      throw new UmbraError({ code: 'E_EXPORT', message }, cause);
    }
  }

  private constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'r+');
    this.#socket = new Socket({ fd: this.#fd, readable: false, writable: true });
    this.#socket.on('error', () => {}); // whoever writes is told
  }

  /** Resolves when the pipe has taken it. @throws Error once it is closed */
  write(chunk: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.write(chunk, (error) => {
        // A write under way when it is closed is called back as if it had gone well.
        if (error || this.#socket.destroyed) reject(error ?? new Error('the pipe was closed'));
        else resolve();
      });
    });
  }

  /** Resolves when all that was written has been read, or the pipe is closed. */
  async read(): Promise<void> {
    while (!this.#socket.destroyed && unreadBytes(this.#fd) > 0) await delay(LOOK_AGAIN_MS);
  }

  /** Who reads it finds its end there. Idempotent. */
  close(): void {
    rmSync(this.path, { force: true });
    this.#socket.destroy();
  }
}
