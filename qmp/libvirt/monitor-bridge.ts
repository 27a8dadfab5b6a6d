/**
 * A domain's monitor as a QMP socket of ours: whoever connects speaks with QEMU, while libvirt keeps its own
 * monitor and knows what becomes of the domain.
 *
 *     client ──QMP── socket ──▶ session:   a monitor of QEMU's that is ours alone, if there is one
 *                                          libvirt's, through libvirt
 *                                          libvirt's, without it: while libvirt is gone, and we may
 *
 * A client that comes when there is no way is told why, before any greeting. When libvirt or the domain
 * goes away, all clients are told, in a line that answers nothing, and hung up on: the next one that comes
 * begins another session.
 *
 *     {"error": {"class": "E_LIBVIRT_CONNECT", "desc": "…"}}
 */
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { QmpError } from '../errors.ts';
import { LineFramer } from '../framing.ts';
import { DirectSession } from './direct-session.ts';
import { LibvirtError } from './errors.ts';
import { LibvirtSession } from './libvirt-session.ts';
import { type MonitorEvent, type MonitorRequest, monitorRequest } from './monitor-lines.ts';
import type { DomainAddress, MonitorSession } from './session.ts';

/** Domain names as libvirt takes them, less what its shell would. */
const DOMAIN_NAME = /^[^/'"\\\n]+$/;

/** Monitors of a domain's QEMU, by the paths of their sockets. */
export interface MonitorSockets {
  /** One that libvirt has no part in. */
  readonly own?: string | undefined;
  /** Libvirt's, which may be borrowed while libvirt is gone. */
  readonly borrowed?: string | undefined;
}

export interface MonitorAddress extends DomainAddress {
  /** Where the socket is made, in a folder only we can enter. */
  readonly path: string;
  /** Looked up when a session begins: the domain may have been started anew. */
  readonly sockets?: () => MonitorSockets;
}

interface Session {
  readonly monitor: MonitorSession;
  readonly via: 'own' | 'libvirt' | 'borrowed';
}

export class MonitorBridge {
  readonly #domain: MonitorAddress;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #session: Promise<Session> | undefined;
  #closed = false;
  /** A monitor of the domain's that did not greet us. */
  #taken: string | undefined;

  /** @throws QmpError E_QMP_CONNECT when the socket cannot be made; libvirt may be away */
  static async open(domain: MonitorAddress): Promise<MonitorBridge> {
    const bridge = new MonitorBridge(domain);
    rmSync(domain.path, { force: true });
    bridge.#server.listen(domain.path);
    try {
      await once(bridge.#server, 'listening');
    } catch (cause) {
      const context = { socket: domain.path, cause };
      throw new QmpError('E_QMP_CONNECT', `cannot listen on ${domain.path}`, context);
    }
    chmodSync(domain.path, 0o600);
    return bridge;
  }

  private constructor(domain: MonitorAddress) {
    this.#domain = domain;
    this.#server = createServer((client) => void this.#serve(client));
  }

  /** Idempotent. The domain runs on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    this.#hangUp(new LibvirtError('E_LIBVIRT_CONNECT', 'closed by its owner', this.#domain.uri));
    rmSync(this.#domain.path, { force: true });
  }

  async #serve(client: Socket): Promise<void> {
    client.on('error', () => {}); // it went away
    let session: Session;
    try {
      session = await this.#open();
    } catch (error) {
      client.end(farewell(error as LibvirtError));
      return;
    }
    this.#clients.add(client);
    if (client.destroyed) return this.#left(client, session);
    client.once('close', () => this.#left(client, session));
    client.write(`${JSON.stringify(session.monitor.greeting)}\r\n`);
    const framer = new LineFramer();
    client.on('data', (chunk: Buffer) => {
      try {
        framer.push(chunk, (line) => {
          void this.#answer(client, session.monitor, monitorRequest(line));
        });
      } catch {
        client.destroy(); // no QMP client
      }
    });
  }

  /** What is borrowed is given back at once. */
  #left(client: Socket, { via }: Session): void {
    const wasOurs = this.#clients.delete(client);
    if (via === 'borrowed' && wasOurs && this.#clients.size === 0) this.#change();
  }

  /** Nobody is on it: the next client begins another. */
  #change(): void {
    this.#hangUp(new LibvirtError('E_LIBVIRT_CONNECT', 'the way is changed', this.#domain.uri));
  }

  async #answer(client: Socket, monitor: MonitorSession, request: MonitorRequest): Promise<void> {
    const { execute, arguments: args, id } = request;
    const negotiates = execute === 'qmp_capabilities'; // that has been done
    const asked = negotiates ? { return: {} } : monitor.execute(execute, args);
    const answer = await Promise.resolve(asked).catch((error: unknown) => {
      // The domain, or libvirt, is gone: not an answer to this command alone.
      const gone = error instanceof LibvirtError && error.code !== 'E_LIBVIRT';
      if (gone && this.#clients.has(client)) this.#hangUp(error);
      return { error: { class: 'GenericError', desc: (error as Error).message } };
    });
    if (client.writable) client.write(`${JSON.stringify({ ...answer, id })}\r\n`);
  }

  /** The session there is, or a new one. */
  async #open(): Promise<Session> {
    const held = this.#session;
    const present = await held?.catch(() => undefined);
    const isIdle = held === this.#session && this.#clients.size === 0;
    // The domain may have been started anew, with a monitor that it had not.
    if (present?.via === 'libvirt' && isIdle && this.#ownSocket() !== undefined) this.#change();
    if (this.#session !== undefined) return this.#session;
    const opening = this.#begin();
    this.#session = opening;
    opening.catch(() => {
      if (this.#session === opening) this.#session = undefined;
    });
    return opening;
  }

  /** A monitor to be tried, which nobody else was found at. */
  #ownSocket(): string | undefined {
    const own = this.#domain.sockets?.().own;
    return own === this.#taken ? undefined : own;
  }

  /** @throws LibvirtError */
  async #begin(): Promise<Session> {
    const { uri, domain, sockets } = this.#domain;
    if (!DOMAIN_NAME.test(domain)) {
      throw new LibvirtError('E_LIBVIRT_DOMAIN', `no domain can be called ${domain}`, uri);
    }
    const own = this.#ownSocket();
    const direct = await this.#direct(own);
    if (direct !== undefined) return { monitor: direct, via: 'own' };
    this.#taken = own ?? this.#taken; // by somebody else: libvirt's will do
    try {
      const monitor = await LibvirtSession.open(this.#domain, this.#owner());
      return { monitor, via: 'libvirt' };
    } catch (error) {
      const isAway = error instanceof LibvirtError && error.code === 'E_LIBVIRT_CONNECT';
      const monitor = isAway ? await this.#direct(sockets?.().borrowed) : undefined;
      if (monitor === undefined) throw error;
      return { monitor, via: 'borrowed' };
    }
  }

  #direct(path: string | undefined): Promise<DirectSession | undefined> {
    if (path === undefined) return Promise.resolve(undefined);
    return DirectSession.open(path, this.#domain, this.#owner()).catch(() => undefined);
  }

  #owner() {
    return {
      onEvent: (event: MonitorEvent) => {
        for (const client of this.#clients) client.write(`${JSON.stringify(event)}\r\n`);
      },
      onGone: (why: LibvirtError) => this.#hangUp(why),
    };
  }

  /** Ends the session and its clients, who are told why; the next client begins another. */
  #hangUp(why: LibvirtError): void {
    const session = this.#session;
    this.#session = undefined;
    void session?.then(
      ({ monitor }) => monitor.close(),
      () => {},
    );
    for (const client of this.#clients) client.end(farewell(why));
    this.#clients.clear();
  }
}

function farewell({ code, message }: LibvirtError): string {
  return `${JSON.stringify({ error: { class: code, desc: message } })}\r\n`;
}
