/**
 * A QMP socket of Umbra's that leads to a domain's QEMU, while libvirt keeps its own monitor and
 * stays informed of the domain.
 *
 *     client ──QMP── socket ──▶ session   own        a monitor beside libvirt's, if there is one
 *                                         libvirt    libvirt's, by way of libvirt
 *                                         borrowed   libvirt's, directly: libvirt is gone, and
 *                                                    a VM is to be repaired
 *
 * A client for which no session can be opened gets an error line instead of a greeting. When
 * libvirt or the domain goes away, each client gets such a line and is disconnected; the next
 * client begins another session.
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

/** Domain names that libvirt accepts, without characters its shell would interpret. */
const DOMAIN_NAME = /^[^/'"\\\n]+$/;

/** Monitors of a domain's QEMU, by the paths of their sockets. */
export interface MonitorSockets {
  /** A monitor that libvirt does not use. */
  readonly own?: string | undefined;
  /** Libvirt's monitor, which may be used while libvirt is gone. */
  readonly borrowed?: string | undefined;
}

export interface MonitorAddress extends DomainAddress {
  /** Path of the socket to make, in a folder that only this user can enter. */
  readonly path: string;
  /** Finds the monitors when a session begins: the domain may have been started anew. */
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
  /** A monitor that sent no greeting: another client has it. */
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

  /** Closes the socket and its clients' connections; the domain keeps running. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    this.#hangUp(new LibvirtError('E_LIBVIRT_CONNECT', 'closed by its owner', this.#domain.uri));
    rmSync(this.#domain.path, { force: true });
  }

  async #serve(client: Socket): Promise<void> {
    client.on('error', () => {}); // 'close' follows
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

  /** Forgets a client; a borrowed monitor is given back when its last client has left. */
  #left(client: Socket, { via }: Session): void {
    const wasOurs = this.#clients.delete(client);
    if (via === 'borrowed' && wasOurs && this.#clients.size === 0) this.#change();
  }

  /** Ends a session without clients: the next client begins another. */
  #change(): void {
    this.#hangUp(
      new LibvirtError('E_LIBVIRT_CONNECT', 'the session is replaced', this.#domain.uri),
    );
  }

  async #answer(client: Socket, monitor: MonitorSession, request: MonitorRequest): Promise<void> {
    const { execute, arguments: args, id } = request;
    const negotiates = execute === 'qmp_capabilities'; // that has been done
    const asked = negotiates ? { return: {} } : monitor.execute(execute, args);
    const answer = await Promise.resolve(asked).catch((error: unknown) => {
      // The domain or libvirt is gone: that concerns all clients, not this command alone.
      const gone = error instanceof LibvirtError && error.code !== 'E_LIBVIRT';
      if (gone && this.#clients.has(client)) this.#hangUp(error);
      return { error: { class: 'GenericError', desc: (error as Error).message } };
    });
    if (client.writable) client.write(`${JSON.stringify({ ...answer, id })}\r\n`);
  }

  /** Returns the present session, or begins one. */
  async #open(): Promise<Session> {
    const held = this.#session;
    const present = await held?.catch(() => undefined);
    const isIdle = held === this.#session && this.#clients.size === 0;
    // The domain may have been started anew, with a monitor of its own that it did not have.
    if (present?.via === 'libvirt' && isIdle && this.#ownSocket() !== undefined) this.#change();
    if (this.#session !== undefined) return this.#session;
    const opening = this.#begin();
    this.#session = opening;
    opening.catch(() => {
      if (this.#session === opening) this.#session = undefined;
    });
    return opening;
  }

  /** Returns the domain's own monitor, unless another client was found on it. */
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
    this.#taken = own ?? this.#taken; // another client has it: libvirt's is used
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

  /** Ends the session; each client is sent the reason and disconnected. */
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
