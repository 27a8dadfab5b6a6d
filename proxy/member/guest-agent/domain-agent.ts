/**
 * The guest agent of a domain: libvirt itself holds the port's other end, and begins each question
 * with `guest-sync-delimited` of its own (src/qemu/qemu_agent.c).
 */
import { domainUuid, Virsh } from '../../../qmp/libvirt/index.ts';
import type { LibvirtDomain } from '../../protocol/cluster.ts';
import type { GuestAgent } from './guest-agent.ts';
import { fault, parseReply, quoted, type Reply } from './replies.ts';

/** Time beyond the limit of an answer in which libvirt itself must say that there is none. */
const LIBVIRT_MS = 10_000;
const REFUSED = /unable to execute QEMU agent command[^:]*: (.*)/;

export class DomainAgent implements GuestAgent {
  readonly #uuid: string;
  readonly #virsh: Virsh;
  readonly #answerMs: number;

  /**
   * @param answerMs limit of each answer
   * @throws LibvirtError
   */
  static async open(domain: LibvirtDomain, answerMs: number): Promise<DomainAgent> {
    return new DomainAgent(domain.uri, await domainUuid(domain), answerMs);
  }

  private constructor(uri: string, uuid: string, answerMs: number) {
    this.#uuid = uuid;
    this.#answerMs = answerMs;
    this.#virsh = new Virsh(uri, () => {});
  }

  async ask(question: string): Promise<Reply> {
    // libvirt's own limit: it works on a question even when its client has gone.
    const seconds = Math.ceil(this.#answerMs / 1000);
    const words = `qemu-agent-command ${this.#uuid} '${question}' --timeout ${seconds}`;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#virsh.close();
    }, this.#answerMs + LIBVIRT_MS);
    try {
      return domainReply(await this.#virsh.run(words));
    } catch (error) {
      throw isLate ? fault('does not answer') : error;
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
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
