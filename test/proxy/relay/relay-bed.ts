/** A relay between the test's own sockets, which play a migration's source and destination. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Address, formatAddress } from '../../../proxy/host/address.ts';
import { Relay, type RelayOptions } from '../../../proxy/relay/relay.ts';
import type { MigrationProgress, MigrationReport } from '../../../proxy/relay/report.ts';
import { scratchFolder } from '../../support/scratch.ts';

export type Wire = 'tcp' | 'unix';

export class RelayBed {
  readonly reports: MigrationReport[] = [];
  progress: readonly MigrationProgress[] = [];
  readonly #folder: string;
  readonly #server: Server;
  readonly #relay: Relay;
  readonly #listen: Address;
  readonly #sockets: Socket[] = [];
  readonly #accepted: Socket[] = [];
  #wake: () => void = () => {};

  static async open(wire: Wire, options: Partial<RelayOptions> = {}): Promise<RelayBed> {
    const folder = mkdtempSync(join(scratchFolder(), 'umbra-relay-'));
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.listen(wire === 'unix' ? join(folder, 'to.sock') : { port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    const to = addressOf(server);
    const listen: Address =
      wire === 'unix'
        ? { kind: 'unix', path: join(folder, 'in.sock') }
        : { kind: 'tcp', host: '127.0.0.1', port: await freePort() };
    const bed: { made?: RelayBed } = {};
    const relay = await Relay.open(
      {
        routes: [{ name: 'vm', listen, to }],
        stallLimitMs: 30_000,
        evacuation: undefined,
        store: undefined,
        ...options,
      },
      {
        onProgress: (progress) => {
          if (bed.made !== undefined) bed.made.progress = progress;
        },
        onReport: (report) => {
          if (bed.made !== undefined) bed.made.#onReport(report);
        },
      },
    );
    bed.made = new RelayBed(folder, server, relay, listen);
    return bed.made;
  }

  private constructor(folder: string, server: Server, relay: Relay, listen: Address) {
    this.#folder = folder;
    this.#server = server;
    this.#relay = relay;
    this.#listen = listen;
    server.on('connection', (socket) => {
      socket.on('error', () => {});
      this.#sockets.push(socket);
      this.#accepted.push(socket);
      this.#wake();
    });
  }

  #onReport(report: MigrationReport): void {
    this.reports.push(report);
    this.#wake();
  }

  get relay(): Relay {
    return this.#relay;
  }

  get listen(): string {
    return formatAddress(this.#listen);
  }

  /** Closes the destination's listener: later connections are refused. */
  stopListening(): void {
    this.#server.close();
  }

  /** Opens a connection as the source. */
  async source(): Promise<Socket> {
    const listen = this.#listen;
    const path = listen.kind === 'unix' ? { path: listen.path } : listen;
    const socket = connect({ ...path, allowHalfOpen: true });
    socket.on('error', () => {});
    socket.pause();
    this.#sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  }

  /** Waits for the destination's next connection. */
  async target(): Promise<Socket> {
    for (;;) {
      const socket = this.#accepted.shift();
      if (socket !== undefined) return socket;
      await this.#change();
    }
  }

  async both(): Promise<{ readonly source: Socket; readonly target: Socket }> {
    const source = await this.source();
    return { source, target: await this.target() };
  }

  /** Waits for the report of the migration that was the `index`th to end. */
  async report(index = 0): Promise<MigrationReport> {
    for (;;) {
      const report = this.reports[index];
      if (report !== undefined) return report;
      await this.#change();
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#relay.end();
    await this.#relay.over;
    this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #change(): Promise<void> {
    const before = this.#wake;
    return new Promise((resolve) => {
      this.#wake = () => {
        before();
        resolve();
      };
    });
  }
}

export async function withBed(
  wire: Wire,
  use: (bed: RelayBed) => Promise<void>,
  options: Partial<RelayOptions> = {},
): Promise<void> {
  const bed = await RelayBed.open(wire, options);
  try {
    await use(bed);
  } finally {
    await bed.close();
  }
}

/** Reads `count` bytes. */
export async function take(socket: Socket, count: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let length = 0; length < count; ) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) await once(socket, 'readable');
    else {
      chunks.push(chunk);
      length += chunk.length;
    }
  }
  const all = Buffer.concat(chunks);
  if (all.length > count) socket.unshift(all.subarray(count));
  return all.subarray(0, count);
}

/** Reads to the end of the stream. */
export async function takeAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Waits for a socket's end. @returns the kernel's error code, or `end` */
export async function ending(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    socket.once('end', () => resolve('end'));
    socket.resume();
  });
}

function addressOf(server: Server): Address {
  const address = server.address();
  if (address === null) throw new Error('the server does not listen');
  if (typeof address === 'string') return { kind: 'unix', path: address };
  return { kind: 'tcp', host: '127.0.0.1', port: address.port };
}

/** Finds a port that no process uses at present. */
async function freePort(): Promise<number> {
  const server = createServer().listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
