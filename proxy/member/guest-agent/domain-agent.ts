/**
 * The guest agent of a domain: libvirt itself holds the port's other end, and begins each question
 * with `guest-sync-delimited` of its own (src/qemu/qemu_agent.c).
 */
import { domainUuid, Virsh } from '../../../qmp/libvirt/index.ts';
import type { LibvirtDomain } from '../../protocol/cluster.ts';
import type { GuestAgent } from './guest-agent.ts';
import { fault, parseReply, quoted, type Reply } from './replies.ts';

/** Ends a question for libvirt, which works on it even when its client has gone. */
const ANSWER_LIMIT_S = 10;
const REFUSED = /unable to execute QEMU agent command[^:]*: (.*)/;

export class DomainAgent implements GuestAgent {
  readonly #uuid: string;
  readonly #virsh: Virsh;
  readonly #signal: AbortSignal;
  readonly #onLate = () => this.#virsh.close();

  /**
   * @param signal ends all waiting
   * @throws LibvirtError
   */
  static async open(domain: LibvirtDomain, signal: AbortSignal): Promise<DomainAgent> {
    return new DomainAgent(domain.uri, await domainUuid(domain), signal);
  }

  private constructor(uri: string, uuid: string, signal: AbortSignal) {
    this.#uuid = uuid;
    this.#signal = signal;
    this.#virsh = new Virsh(uri, () => {});
    signal.addEventListener('abort', this.#onLate);
    if (signal.aborted) this.#onLate();
  }

  async ask(question: string): Promise<Reply> {
    const words = `qemu-agent-command ${this.#uuid} '${question}' --timeout ${ANSWER_LIMIT_S}`;
    const said = await this.#virsh.run(words).catch((error: unknown) => {
      throw this.#signal.aborted ? fault('does not answer') : error;
    });
    return domainReply(said);
  }

  close(): void {
    this.#signal.removeEventListener('abort', this.#onLate);
    this.#virsh.close();
  }
}

/**
 * Finds the agent's reply in what virsh says, after its echo of the command.
 * @throws UmbraError E_GUEST_AGENT
 */
export function domainReply(said: string): Reply {
  const lines = said.split('\n').map((line) => line.trim());
  const answer = lines.findLast((line) => line.startsWith('{'));
  if (answer !== undefined) return parseReply(answer);
  const complaint = lines.findLast((line) => line.startsWith('error: ')) ?? '';
  const refused = REFUSED.exec(complaint)?.[1];
  if (refused !== undefined) return { kind: 'error', words: quoted(refused) };
  throw fault(`is not reached by libvirt: ${quoted(complaint.replace(/^error: /, ''))}`);
}
