import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FrameDecoder } from '../../proxy/switch/frames.ts';

/** Returns a length field and a frame between two one-byte "addresses" (0xff: broadcast). */
export function wireFrame(target: number, source: number, payload = ''): Buffer {
  const address = (last: number) =>
    last === 0xff ? Buffer.alloc(6, 0xff) : Buffer.from([0x52, 0x54, 0, 0, 0, last]);
  const frame = Buffer.concat([
    address(target),
    address(source),
    Buffer.from([0x08, 0x00]),
    Buffer.from(payload),
  ]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(frame.length);
  return Buffer.concat([length, frame]);
}

/** Plays the network socket of a QEMU: listens, takes one connection, collects frames. */
export class SwitchPeer {
  readonly path: string;
  readonly frames: Buffer[] = [];
  #server: Server | undefined;
  #socket: Socket | undefined;

  constructor(path: string) {
    this.path = path;
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => {
      this.#socket = socket;
      const decoder = new FrameDecoder((wire) => this.frames.push(Buffer.from(wire)));
      socket.on('data', (chunk) => decoder.write(chunk)).on('error', () => {});
      server.emit('guest');
    });
    this.#server = server;
    server.listen(this.path);
    await once(server, 'listening');
  }

  /** Resolves at the next connection. */
  async connected(): Promise<void> {
    if (this.#server !== undefined) await once(this.#server, 'guest');
  }

  send(bytes: Buffer): void {
    this.#socket?.write(bytes);
  }

  /** Stops reading, as a stopped guest does. */
  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  /** Ends the connection and the listener, as when a guest is killed. */
  async kill(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#socket?.destroy();
    if (server === undefined) return;
    const closed = once(server, 'close');
    server.close();
    await closed;
  }
}

/** Lends a temporary folder with a short path; removed when the callback ends or fails. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-t-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Polls until `condition` holds. @throws Error after `limitMs`. */
export async function eventually(condition: () => boolean, limitMs = 60_000): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${limitMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
