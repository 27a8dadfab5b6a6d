/**
 * The tiny guest (guest.c): built in a moment, up in the time the firmware takes. It verifies its
 * own memory, so that a VM of any shape tells whether it came back as it was.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { packageFolder } from '../../../proxy/host/program.ts';

const SOURCES = 'tools/testbed/tiny';
const COMPILER_FLAGS =
  '-m32 -O2 -ffreestanding -fno-pic -no-pie -fno-stack-protector -nostdlib -static ' +
  '-Wl,--build-id=none,--no-warn-rwx-segments';
const RETRY_MS = 20;

/** Builds the guest into a folder. @returns the file for `-kernel` */
export async function buildTinyGuest(folder: string): Promise<string> {
  const sources = join(packageFolder(), SOURCES);
  const kernel = join(folder, 'tiny.elf');
  const files = ['-T', join(sources, 'guest.ld'), '-o', kernel, join(sources, 'guest.c')];
  await promisify(execFile)('gcc', [...COMPILER_FLAGS.split(' '), ...files]);
  return kernel;
}

/** The serial line of a tiny guest. */
export class TinyGuest {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  /**
   * Connects to a QEMU that may not have made the socket yet.
   * @param limitMs ends what would never end
   */
  static async connect(path: string, limitMs: number): Promise<TinyGuest> {
    for (const end = performance.now() + limitMs; ; await delay(RETRY_MS)) {
      const socket = connect(path);
      try {
        await once(socket, 'connect');
        return new TinyGuest(socket);
      } catch (error) {
        socket.destroy();
        if (performance.now() > end) throw error;
      }
    }
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => {}); // the lines end
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  /** Verifies all of its memory. @returns the answer: `ok SEED PASSES`, or `bad ADDRESS` */
  verify(limitMs: number): Promise<string> {
    return this.#ask('v', limitMs);
  }

  /** Fills all of its memory anew. @returns `seed SEED` */
  fill(limitMs: number): Promise<string> {
    return this.#ask('s', limitMs);
  }

  /** Gives all memory that it has filled to a balloon. @returns `given PAGES`, or `none` */
  inflate(limitMs: number): Promise<string> {
    return this.#ask('b', limitMs);
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Asks again and again, for a guest that is not up yet does not listen. */
  async #ask(letter: string, limitMs: number): Promise<string> {
    this.#socket.write(letter);
    const limit = delay(limitMs, undefined, { ref: false }).then(() => {
      throw new Error(`the guest does not answer to ${letter} within ${limitMs} ms`);
    });
    limit.catch(() => {}); // it may be too late to matter
    for (;;) {
      const { value, done } = await Promise.race([this.#lines.next(), limit]);
      if (done === true) throw new Error(`the guest's line ended before it answered to ${letter}`);
      const line = String(value).trim();
      if (line !== 'up' && line !== '') return line;
    }
  }
}
