import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

/** A request as it arrived: `run` with its command, `kill`, or `hello`. */
export interface FakeRequest {
  readonly kind: 'run' | 'kill' | 'hello';
  readonly id: string;
  readonly command: string;
}

/** Plays the guest's end of the control channel; what it answers is the test's business. */
export class FakeGuest {
  readonly requests: FakeRequest[] = [];
  readonly #server: Server;
  readonly #onRequest: (request: FakeRequest, guest: FakeGuest) => void;
  #socket: Socket | undefined;
  #line = '';

  private constructor(onRequest: (request: FakeRequest, guest: FakeGuest) => void) {
    this.#onRequest = onRequest;
    this.#server = createServer((socket) => {
      this.#socket = socket;
      socket.setEncoding('latin1').on('data', (text: string) => this.#receive(text));
      socket.on('error', () => {});
    });
  }

  static async listen(
    path: string,
    onRequest: (request: FakeRequest, guest: FakeGuest) => void = () => {},
  ): Promise<FakeGuest> {
    const guest = new FakeGuest(onRequest);
    guest.#server.listen(path);
    await once(guest.#server, 'listening');
    return guest;
  }

  send(text: string): void {
    this.#socket?.write(text);
  }

  output(id: string, text: string): void {
    this.send(`::out ${id} ${Buffer.from(text).toString('base64')}\n`);
  }

  exit(id: string, code: number): void {
    this.send(`::rc ${id} ${code}\n`);
  }

  /** Ends the connection, as a killed QEMU does. */
  hangUp(): void {
    this.#socket?.destroy();
  }

  async close(): Promise<void> {
    this.hangUp();
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  #receive(text: string): void {
    const lines = (this.#line + text).split('\n');
    this.#line = lines.pop() ?? '';
    for (const line of lines) {
      const [kind, id = '', length = '', data = ''] = line.split(' ');
      if (kind !== '::run' && kind !== '::kill' && kind !== '::hello') continue;
      const bytes = Buffer.from(data, 'base64');
      if (kind === '::run' && bytes.length !== Number(length)) throw new Error(`damaged: ${line}`);
      const request: FakeRequest = {
        kind: kind === '::run' ? 'run' : kind === '::kill' ? 'kill' : 'hello',
        id,
        command: bytes.toString(),
      };
      this.requests.push(request);
      this.#onRequest(request, this);
    }
  }
}
