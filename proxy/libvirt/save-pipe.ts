/**
 * A save image that libvirt restores while it is made: no copy of the memory is ever written
 * anywhere.
 *
 *     proxy ── head, stream ──▶ FIFO ──┬── libvirtd: reads the head, then starts QEMU
 *                                      └── QEMU: reads the stream
 *
 * A newer libvirt (11.3 and 12.9 do, 9.0 does not) opens the file twice and reads the head each
 * time: to know what it is, and to restore it. Opens are counted, so that it can be sent again.
 *
 * The proxy opens the FIFO for reading and writing, so that no process ever waits in open(2). A
 * reader that dies is therefore reported by `virsh`, and not by the pipe. For the same reason the
 * FIFO's name is removed before its writing end is closed.
 */
import { execFile } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { UmbraError } from '../failure/failure.ts';
import { opensSince, unreadBytes, watchOpens } from '../host/libc.ts';

/** Time between two looks at the pipe: the kernel does not tell a writer that it was read from. */
const LOOK_AGAIN_MS = 2;

/** The FIFO of one restore. */
export class SavePipe {
  readonly path: string;
  readonly #fd: number;
  readonly #socket: Socket;
  readonly #opensFd: number;
  #opens = 0;

  /**
   * Makes the FIFO and opens it.
   * @param path in a folder that only this user and libvirt can enter; a file of that name is
   * replaced
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
    this.#opensFd = watchOpens(path); // after it: this process's own is not counted
    this.#socket = new Socket({ fd: this.#fd, readable: false, writable: true });
    this.#socket.on('error', () => {}); // `write` reports it
  }

  /** Writes a chunk; resolves when the pipe has taken it. @throws Error once the pipe is closed */
  write(chunk: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.write(chunk, (error) => {
        // A write that is under way when the pipe is closed is called back without an error.
        if (error || this.#socket.destroyed) reject(error ?? new Error('the pipe was closed'));
        else resolve();
      });
    });
  }

  /** Waits until all that was written has been read, or the pipe is closed. */
  async read(): Promise<void> {
    await this.until(() => unreadBytes(this.#fd) === 0);
  }

  /** Returns how often another process has opened the FIFO. */
  get opens(): number {
    if (!this.#socket.destroyed) this.#opens += opensSince(this.#opensFd);
    return this.#opens;
  }

  /**
   * Waits until a condition holds, or the pipe is closed.
   * @param everyMs time between two looks; longer if a look takes long, for other work must go on
   */
  async until(holds: () => boolean, everyMs = LOOK_AGAIN_MS): Promise<void> {
    while (!this.#socket.destroyed && !holds()) await delay(everyMs);
  }

  /** Closes the writing end: the reader then sees the end of the file. Idempotent. */
  close(): void {
    rmSync(this.path, { force: true });
    if (this.#socket.destroyed) return;
    closeSync(this.#opensFd);
    this.#socket.destroy();
  }
}
