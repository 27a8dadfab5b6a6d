/**
 * A session on a monitor of the domain's QEMU itself: one beside libvirt's, or libvirt's own while
 * libvirt is gone. QEMU tells libvirt what changes, at once or when libvirt is back. Only the start
 * of a migration needs libvirt (hand-over.ts).
 */
import { QmpClient } from '../client.ts';
import { QmpError } from '../errors.ts';
import { domainUuid } from './domain-uuid.ts';
import { LibvirtError } from './errors.ts';
import { handOver, unixPathOf } from './hand-over.ts';
import { monitorAnswer } from './monitor-lines.ts';
import type { DomainAddress, Json, MonitorSession, SessionOwner } from './session.ts';
import { virsh } from './virsh.ts';

/** QEMU serves one client at a time, and the present one may never leave. */
const GREETING_LIMIT_MS = 1_000;
/** Clients have shorter deadlines of their own. */
const COMMAND_LIMIT_MS = 60_000;

export class DirectSession implements MonitorSession {
  readonly #domain: DomainAddress;
  readonly #client: QmpClient;
  #closed = false;

  /** @throws QmpError */
  static async open(
    path: string,
    domain: DomainAddress,
    owner: SessionOwner,
  ): Promise<DirectSession> {
    const client = await QmpClient.connect(path, { timeoutMs: GREETING_LIMIT_MS });
    return new DirectSession(client, domain, owner);
  }

  private constructor(client: QmpClient, domain: DomainAddress, owner: SessionOwner) {
    this.#domain = domain;
    this.#client = client;
    client.onEvent(({ name, data, timestampUs }) => {
      const seconds = Math.floor(timestampUs / 1e6);
      const timestamp = { seconds, microseconds: timestampUs - seconds * 1e6 };
      owner.onEvent({ event: name, data, timestamp });
    });
    void client.closed.then((error) => {
      if (!this.#closed) owner.onGone(this.#gone(error));
    });
  }

  get greeting(): Json {
    const { major, minor, micro, package: distribution } = this.#client.version;
    const version = { qemu: { major, minor, micro }, package: distribution };
    return { QMP: { version, capabilities: [] } };
  }

  async execute(execute: string, args: unknown): Promise<Json> {
    const path = unixPathOf(execute, args);
    if (path !== undefined) return this.#migrate(path, args);
    const options = { timeoutMs: COMMAND_LIMIT_MS };
    try {
      // Any command of QEMU's may come; the type stands for all of them.
      return { return: await this.#client.execute(execute as 'stop', args as undefined, options) };
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      if (error.code !== 'E_QMP_COMMAND') throw this.#gone(error);
      return { error: { class: error.qemuClass, desc: error.message } };
    }
  }

  async #migrate(path: string, args: unknown): Promise<Json> {
    const { uri } = this.#domain;
    const domain = await domainUuid(this.#domain);
    const command = JSON.stringify(await handOver({ uri, domain }, path, args));
    const said = await virsh(uri, ['qemu-monitor-command', '--domain', domain, '--cmd', command]);
    const answer = monitorAnswer(said);
    if (answer !== undefined) return answer;
    throw new LibvirtError('E_LIBVIRT', `migrate: ${said}`, uri);
  }

  #gone(cause: QmpError): LibvirtError {
    const { uri, domain } = this.#domain;
    return new LibvirtError('E_LIBVIRT_DOMAIN', `${domain}: ${cause.message}`, uri, cause);
  }

  close(): void {
    this.#closed = true;
    this.#client.close();
  }
}
