/**
 * A domain's monitor as a QMP socket of ours: whoever connects speaks with QEMU through libvirt, which
 * keeps its own monitor and knows what becomes of the domain.
 *
 *     client ──QMP── socket ──┬── virsh, kept open: qemu-monitor-command
 *                             ├── virsh: qemu-monitor-event --loop, to all clients
 *                             └── virsh --pass-fds: getfd, for `migrate unix:PATH`, which QEMU in its
 *                                 sandbox could not reach: we connect, it gets the connection
 *
 * A client that comes while libvirt cannot be reached is told why, before any greeting. When libvirt or
 * the domain goes away, all clients are told, in a line that answers nothing, and hung up on: it is tried
 * anew when the next one comes.
 *
 *     {"error": {"class": "E_LIBVIRT_CONNECT", "desc": "…"}}
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { QmpError } from '../errors.ts';
import { LineFramer } from '../framing.ts';
import { LibvirtError, libvirtError } from './errors.ts';
import {
  type MonitorRequest,
  monitorAnswer,
  monitorCommand,
  monitorEvent,
  monitorRequest,
} from './monitor-lines.ts';
import { DIE_WITH_US, environment, Virsh, virshWithSocket } from './virsh.ts';

type Json = Readonly<Record<string, unknown>>;

/** Domain names as libvirt takes them, less what its shell would. */
const DOMAIN_NAME = /^[^/'"\\\n]+$/;
const FD_NAME = 'umbra';
const REGISTER_LIMIT_MS = 10_000;

export interface MonitorPlace {
  readonly uri: string;
  readonly domain: string;
  /** Where the socket is made, in a folder only we can enter. */
  readonly path: string;
}

/** What is open while libvirt can be reached. */
interface Session {
  readonly virsh: Virsh;
  readonly events: ChildProcess;
  readonly greeting: Json;
}

export class MonitorBridge {
  readonly #place: MonitorPlace;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #session: Promise<Session> | undefined;
  #closed = false;

  /** @throws QmpError E_QMP_CONNECT when the socket cannot be made; libvirt may be away */
  static async open(place: MonitorPlace): Promise<MonitorBridge> {
    const bridge = new MonitorBridge(place);
    rmSync(place.path, { force: true });
    bridge.#server.listen(place.path);
    try {
      await once(bridge.#server, 'listening');
    } catch (cause) {
      const context = { socket: place.path, cause };
      throw new QmpError('E_QMP_CONNECT', `cannot listen on ${place.path}`, context);
    }
    chmodSync(place.path, 0o600);
    return bridge;
  }

  private constructor(place: MonitorPlace) {
    this.#place = place;
    this.#server = createServer((client) => void this.#serve(client));
  }

  /** Idempotent. The domain runs on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    this.#hangUp(new LibvirtError('E_LIBVIRT_CONNECT', 'closed by its owner', this.#place.uri));
    rmSync(this.#place.path, { force: true });
  }

  async #serve(client: Socket): Promise<void> {
    client.on('error', () => {}); // it went away
    client.once('close', () => this.#clients.delete(client));
    let session: Session;
    try {
      session = await this.#open();
    } catch (error) {
      client.end(farewell(error as LibvirtError));
      return;
    }
    this.#clients.add(client);
    client.write(`${JSON.stringify(session.greeting)}\r\n`);
    const framer = new LineFramer();
    client.on('data', (chunk: Buffer) => {
      try {
        framer.push(chunk, (line) => void this.#answer(client, session, monitorRequest(line)));
      } catch {
        client.destroy(); // no QMP client
      }
    });
  }

  async #answer(client: Socket, session: Session, request: MonitorRequest): Promise<void> {
    const { execute, arguments: args, id } = request;
    const answer = await this.#execute(session, execute, args).catch((error: unknown) => {
      // The domain, or libvirt, is gone: not an answer to this command alone.
      const gone = error instanceof LibvirtError && error.code !== 'E_LIBVIRT';
      if (gone && this.#clients.has(client)) this.#hangUp(error);
      return { error: { class: 'GenericError', desc: (error as Error).message } };
    });
    if (client.writable) client.write(`${JSON.stringify({ ...answer, id })}\r\n`);
  }

  async #execute({ virsh }: Session, execute: string, args: unknown): Promise<Json> {
    if (execute === 'qmp_capabilities') return { return: {} }; // libvirt has negotiated
    const path = execute === 'migrate' ? unixPathOf(args) : undefined;
    if (path === undefined) {
      return this.#command(virsh, { execute, ...(args === undefined ? {} : { arguments: args }) });
    }
    await this.#handOver(path);
    const uri = `fd:${FD_NAME}`;
    return this.#command(virsh, { execute, arguments: { ...(args as Json), uri } });
  }

  async #command(virsh: Virsh, message: Json): Promise<Json> {
    const said = await virsh.run(monitorCommand(this.#place.domain, message));
    const answer = monitorAnswer(said);
    if (answer !== undefined) return answer;
    throw libvirtError(said, this.#place.uri);
  }

  /** Connects in QEMU's place, and gives it the connection. */
  async #handOver(path: string): Promise<void> {
    const { uri, domain } = this.#place;
    const socket = connect(path);
    try {
      await once(socket, 'connect');
      const getfd = JSON.stringify({ execute: 'getfd', arguments: { fdname: FD_NAME } });
      const args = ['qemu-monitor-command', '--domain', domain, '--pass-fds', '3', '--cmd', getfd];
      const answer = monitorAnswer(await virshWithSocket(uri, args, socket));
      if (answer !== undefined && 'return' in answer) return;
      throw new LibvirtError('E_LIBVIRT', `getfd: ${JSON.stringify(answer)}`, uri);
    } finally {
      socket.destroy(); // ours; QEMU has its own now
    }
  }

  /** The session there is, or a new one. */
  #open(): Promise<Session> {
    if (this.#session !== undefined) return this.#session;
    const opening = this.#begin();
    this.#session = opening;
    opening.catch(() => {
      if (this.#session === opening) this.#session = undefined;
    });
    return opening;
  }

  async #begin(): Promise<Session> {
    const { uri, domain } = this.#place;
    if (!DOMAIN_NAME.test(domain)) {
      throw new LibvirtError('E_LIBVIRT_DOMAIN', `no domain can be called ${domain}`, uri);
    }
    const virsh = new Virsh(uri, (error) => this.#hangUp(error));
    try {
      const answer = await virsh.run(monitorCommand(domain, { execute: 'query-version' }));
      const { return: version } = monitorAnswer(answer) ?? {};
      if (version === undefined) throw libvirtError(answer, uri);
      const events = await this.#registerEvents(virsh);
      return { virsh, events, greeting: { QMP: { version, capabilities: [] } } };
    } catch (error) {
      virsh.close();
      throw error;
    }
  }

  /**
   * virsh does not say when it has registered, but libvirt's own log does that it is about to: with one
   * more answer from the same libvirtd after that, it has.
   */
  async #registerEvents(virsh: Virsh): Promise<ChildProcess> {
    const { uri, domain } = this.#place;
    const words = ['virsh', '-q', '-c', uri, 'qemu-monitor-event', domain, '--loop'];
    const events = spawn('setpriv', [...DIE_WITH_US, ...words], {
      env: {
        ...environment(),
        LIBVIRT_LOG_FILTERS: '1:libvirt-qemu',
        LIBVIRT_LOG_OUTPUTS: '1:stderr',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => events.kill('SIGKILL'), REGISTER_LIMIT_MS);
    let complaint = '';
    try {
      await new Promise<void>((resolve, reject) => {
        events.stderr?.setEncoding('utf8').on('data', (text: string) => {
          complaint = (complaint + text).slice(-65_536);
          if (complaint.includes('EventRegister')) resolve();
        });
        events.once('error', reject);
        events.once('exit', () => reject(libvirtError(complaint, uri)));
      });
      await virsh.run(monitorCommand(domain, { execute: 'query-status' }));
    } catch (error) {
      events.kill('SIGKILL');
      throw error;
    } finally {
      clearTimeout(timer);
    }
    events.once('exit', () => {
      if (!virsh.isOpen) return; // that session has ended already
      this.#hangUp(new LibvirtError('E_LIBVIRT_CONNECT', 'libvirt tells no events any more', uri));
    });
    if (events.stdout === null) throw new Error('its output is piped');
    createInterface(events.stdout).on('line', (line) => this.#tell(line));
    return events;
  }

  #tell(line: string): void {
    const event = monitorEvent(line);
    if (event === undefined) return;
    for (const client of this.#clients) client.write(`${JSON.stringify(event)}\r\n`);
  }

  /** Ends the session and its clients, who are told why; the next client begins another. */
  #hangUp(why: LibvirtError): void {
    const session = this.#session;
    this.#session = undefined;
    void session?.then(
      ({ virsh, events }) => {
        virsh.close();
        events.kill('SIGKILL');
      },
      () => {},
    );
    for (const client of this.#clients) client.end(farewell(why));
    this.#clients.clear();
  }
}

function farewell({ code, message }: LibvirtError): string {
  return `${JSON.stringify({ error: { class: code, desc: message } })}\r\n`;
}

function unixPathOf(args: unknown): string | undefined {
  const { uri } = (args ?? {}) as { readonly uri?: unknown };
  return typeof uri === 'string' ? /^unix:(.+)$/.exec(uri)?.[1] : undefined;
}
