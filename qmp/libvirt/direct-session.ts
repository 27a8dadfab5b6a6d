/**
 * A domain's QEMU on a monitor that libvirt has no part in: one more in the domain's description, or
 * libvirt's own while libvirt is gone. What it does there, libvirt is told by QEMU, now or when it is back.
 * Only the start of a migration needs libvirt (hand-over.ts).
 */
import { QmpClient } from '../client.ts';
import { QmpError } from '../errors.ts';
import { LibvirtError } from './errors.ts';
import { handOver, unixPathOf } from './hand-over.ts';
import { monitorAnswer } from './monitor-lines.ts';
import type { DomainAddress, Json, MonitorSession, SessionOwner } from './session.ts';
import { virsh } from './virsh.ts';

/** One client at a time: whoever has it now may keep it for good. */
const GREETING_LIMIT_MS = 1_000;
/** Clients have deadlines of their own, shorter ones. */
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
      // Whoever asks knows which commands there are.
      return { return: await this.#client.execute(execute as 'stop', args as undefined, options) };
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      if (error.code !== 'E_QMP_COMMAND') throw this.#gone(error);
      return { error: { class: error.qemuClass, desc: error.message } };
    }
  }

  async #migrate(path: string, args: unknown): Promise<Json> {
    const { uri, domain } = this.#domain;
    const command = JSON.stringify(await handOver(this.#domain, path, args));
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
