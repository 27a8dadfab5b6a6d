/**
 * A session on libvirt's monitor of a domain, by way of libvirt, which stays informed.
 *
 *     execute ── virsh, kept open: qemu-monitor-command
 *     onEvent ── virsh: qemu-monitor-event --loop
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { domainUuid } from './domain-uuid.ts';
import { LibvirtError, libvirtError } from './errors.ts';
import { handOver, unixPathOf } from './hand-over.ts';
import { monitorAnswer, monitorCommand, monitorEvent } from './monitor-lines.ts';
import type { DomainAddress, Json, MonitorSession, SessionOwner } from './session.ts';
import { DIE_WITH_US, environment, Virsh } from './virsh.ts';

const REGISTER_LIMIT_MS = 10_000;

export class LibvirtSession implements MonitorSession {
  /** Named by its UUID. */
  readonly #domain: DomainAddress;
  readonly #owner: SessionOwner;
  readonly #virsh: Virsh;
  #events: ChildProcess | undefined;
  #isOpen = false;
  greeting: Json = {};

  /** @throws LibvirtError */
  static async open(domain: DomainAddress, owner: SessionOwner): Promise<LibvirtSession> {
    const exact = { uri: domain.uri, domain: await domainUuid(domain) };
    const session = new LibvirtSession(exact, owner);
    try {
      await session.#begin();
      session.#isOpen = true;
      return session;
    } catch (error) {
      session.close();
      throw error;
    }
  }

  private constructor(domain: DomainAddress, owner: SessionOwner) {
    this.#domain = domain;
    this.#owner = owner;
    // Until the session is open, `open` throws what failed.
    this.#virsh = new Virsh(domain.uri, (error) => {
      if (this.#isOpen) owner.onGone(error);
    });
  }

  async execute(execute: string, args: unknown): Promise<Json> {
    const path = unixPathOf(execute, args);
    if (path !== undefined) return this.#command(await handOver(this.#domain, path, args));
    return this.#command({ execute, ...(args === undefined ? {} : { arguments: args }) });
  }

  close(): void {
    this.#virsh.close();
    this.#events?.kill('SIGKILL');
  }

  async #begin(): Promise<void> {
    const { return: version } = await this.#command({ execute: 'query-version' });
    this.greeting = { QMP: { version, capabilities: [] } };
    await this.#registerEvents();
  }

  async #command(message: Json): Promise<Json> {
    const said = await this.#virsh.run(monitorCommand(this.#domain.domain, message));
    const answer = monitorAnswer(said);
    if (answer !== undefined) return answer;
    throw libvirtError(said, this.#domain.uri);
  }

  /**
   * Starts virsh's event loop and waits until it is registered. virsh does not say when it is, but
   * libvirt's log says that it is about to be: with one more answer of the same libvirtd after that
   * line, it is registered.
   */
  async #registerEvents(): Promise<void> {
    const { uri, domain } = this.#domain;
    const words = ['virsh', '-q', '-c', uri, 'qemu-monitor-event', domain, '--loop'];
    const events = spawn('setpriv', [...DIE_WITH_US, ...words], {
      env: {
        ...environment(),
        LIBVIRT_LOG_FILTERS: '1:libvirt-qemu',
        LIBVIRT_LOG_OUTPUTS: '1:stderr',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#events = events;
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
      await this.#command({ execute: 'query-status' });
    } finally {
      clearTimeout(timer);
    }
    events.once('exit', () => {
      if (!this.#virsh.isOpen) return; // this session has ended already
      const message = 'libvirt no longer reports events';
      this.#owner.onGone(new LibvirtError('E_LIBVIRT_CONNECT', message, uri));
    });
    if (events.stdout === null) throw new Error('its output is piped');
    createInterface(events.stdout).on('line', (line) => {
      const event = monitorEvent(line);
      if (event !== undefined) this.#owner.onEvent(event);
    });
  }
}
