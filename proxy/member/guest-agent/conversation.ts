/** A conversation with a guest agent, over the unix socket of its port. */
import { connect, type Socket } from 'node:net';
import { UmbraError } from '../../failure/failure.ts';
import { type GuestAgent, question } from './guest-agent.ts';
import { fault, MARK, type Reply, ReplyReader } from './replies.ts';

interface Asked {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: UmbraError) => void;
  readonly timer: NodeJS.Timeout;
}

export class Conversation implements GuestAgent {
  readonly #socket: Socket;
  readonly #reader: ReplyReader;
  readonly #answerMs: number;
  #asked: Asked | undefined;
  #failure: UmbraError | undefined;

  /**
   * Begins a conversation. QEMU serves one client of the socket at a time: a second one waits.
   * @param id a random number
   * @param answerMs limit of each answer
   * @throws UmbraError E_GUEST_AGENT
   */
  static async begin(path: string, id: number, answerMs: number): Promise<Conversation> {
    const conversation = new Conversation(path, id, answerMs);
    // The mark has the agent forget half a question that an earlier client has left.
    conversation.#socket.write(Buffer.of(MARK));
    try {
      await conversation.ask(question('guest-sync-delimited', { id }));
      return conversation;
    } catch (error) {
      conversation.close();
      throw error;
    }
  }

  private constructor(path: string, id: number, answerMs: number) {
    this.#reader = new ReplyReader(id);
    this.#answerMs = answerMs;
    this.#socket = connect(path);
    this.#socket.on('data', (chunk) => this.#receive(chunk));
    this.#socket.on('error', (cause: NodeJS.ErrnoException) => {
      const message = `the guest agent’s socket ${path}: ${cause.code ?? cause.message}`;
      this.#fail(new UmbraError({ code: 'E_GUEST_AGENT', message }, cause));
    });
    this.#socket.on('close', () => this.#fail(fault('has been left by QEMU')));
  }

  ask(text: string): Promise<Reply> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#asked !== undefined) throw new Error('a question is not answered yet');
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(fault('does not answer')), this.#answerMs);
      this.#asked = { resolve, reject, timer };
      this.#socket.write(`${text}\n`);
    });
  }

  close(): void {
    clearTimeout(this.#asked?.timer);
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    try {
      for (const reply of this.#reader.read(chunk)) {
        const asked = this.#asked;
        this.#asked = undefined;
        if (asked === undefined) throw fault('answers what it was not asked');
        clearTimeout(asked.timer);
        asked.resolve(reply);
      }
    } catch (error) {
      this.#fail(error instanceof UmbraError ? error : fault('is not understood', error));
    }
  }

  /** Ends the conversation: what comes after a fault cannot be told apart. */
  #fail(error: UmbraError): void {
    this.#failure ??= error;
    this.close();
    this.#asked?.reject(this.#failure);
    this.#asked = undefined;
  }
}
