import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

/** Minimal QMP client for the guest's own tests, which must not depend on Umbra's client. */
export class GuestQmp {
  readonly #socket: Socket;
  /** An iterator keeps the lines that arrive together; events would be missed. */
  readonly #lines: AsyncIterator<string>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  static async connect(path: string): Promise<GuestQmp> {
    const socket = connect(path);
    await once(socket, 'connect');
    const qmp = new GuestQmp(socket);
    await qmp.execute('qmp_capabilities');
    return qmp;
  }

  /** Executes one command; one at a time. @throws Error with QEMU's message */
  async execute(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: name, arguments: args })}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`${name}: QEMU closed the connection`);
      const message = JSON.parse(value) as { return?: unknown; error?: { desc: string } };
      if (message.error !== undefined) throw new Error(`${name}: ${message.error.desc}`);
      if ('return' in message) return message.return;
    }
  }

  /** Stops the machine and writes its whole state to `file`. */
  async save(file: string): Promise<void> {
    await this.execute('stop');
    await this.execute('migrate', { uri: `exec:cat >'${file}'` });
    for (;;) {
      const { status } = (await this.execute('query-migrate')) as { status: string };
      if (status === 'completed') return;
      if (status === 'failed') throw new Error('migration failed');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Resumes a machine that was saved while stopped, once its state is loaded. */
  async resume(): Promise<void> {
    for (;;) {
      const { status } = (await this.execute('query-status')) as { status: string };
      if (status !== 'inmigrate') break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await this.execute('cont');
  }

  close(): void {
    this.#socket.destroy();
  }
}
