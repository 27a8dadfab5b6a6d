import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  encodeHello,
  encodeKill,
  encodeRun,
  type GuestReply,
  ReplyDecoder,
} from './control-frames.ts';
import { GuestError, type GuestErrorCode } from './errors.ts';

export interface WaitOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface ConnectOptions extends WaitOptions {
  /** Returns text to add to the error when QEMU closes the connection. */
  readonly explain?: () => string;
}

export interface CommandResult {
  /** Standard output and standard error as they came, decoded as UTF-8. */
  readonly output: string;
  /** 0-255; 128 + n after signal n. */
  readonly exitCode: number;
}

/** Limit of one command's output, bytes. */
const OUTPUT_BYTES_MAX = 8 * 1024 * 1024;
const CONNECT_RETRY_MS = 50;
const BOOT_PROBE_MS = 250;

interface Pending {
  readonly command: string;
  readonly chunks: Buffer[];
  bytes: number;
  readonly settle: (outcome: CommandResult | GuestError) => void;
}

/**
 * Runs shell commands in a guest over its second serial port, several at once if needed.
 *
 * One client at a time: QEMU lets a second one wait until the first has disconnected. After a
 * restore the socket belongs to another QEMU: connect anew. Commands have ids that no other client
 * uses, so replies of a restored guest to an earlier client are recognised and dropped.
 */
export class GuestControl {
  readonly #socket: Socket;
  readonly #session = randomBytes(6).toString('hex');
  readonly #pending = new Map<string, Pending>();
  /** Called at every reply, or with the failure if the channel ends first. */
  readonly #listeners = new Set<(failure?: GuestError) => void>();
  #counter = 0;
  #closed: GuestError | undefined;

  private constructor(socket: Socket, explain: () => string) {
    this.#socket = socket;
    const decoder = new ReplyDecoder((reply) => this.#receive(reply));
    socket.on('data', (chunk: Buffer) => decoder.write(chunk));
    socket.on('error', (cause) => this.#end('the control socket failed', cause));
    socket.on('close', () => this.#end(`the control socket was closed${explain()}`));
  }

  /**
   * Connects, waiting for the socket to appear (QEMU may have just been started).
   * Default limit: one minute.
   * @throws GuestError GUEST_UNREACHABLE, GUEST_ABORTED
   */
  static async connect(socketPath: string, options: ConnectOptions = {}): Promise<GuestControl> {
    const deadline = performance.now() + (options.timeoutMs ?? 60_000);
    for (;;) {
      if (options.signal?.aborted) throw aborted('connecting', options.signal);
      try {
        return new GuestControl(await dial(socketPath), options.explain ?? (() => ''));
      } catch (cause) {
        if (performance.now() + CONNECT_RETRY_MS >= deadline) {
          const message = `no guest answers at ${socketPath}`;
          throw new GuestError('GUEST_UNREACHABLE', message, { cause });
        }
      }
      await sleep(CONNECT_RETRY_MS);
    }
  }

  /**
   * Runs `command` with /bin/sh as root and resolves when the shell has ended. Processes it leaves
   * in the background keep running; their output must be redirected. Default limit: three minutes,
   * for an emulated guest on a busy host.
   * @throws GuestError with every code but GUEST_UNREACHABLE
   */
  run(command: string, options: WaitOptions = {}): Promise<CommandResult> {
    const { timeoutMs = 180_000, signal } = options;
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) return reject(this.#closed);
      if (signal?.aborted) return reject(aborted(command, signal));
      const id = `${this.#session}-${this.#counter++}`;
      const giveUp = (error: GuestError): void => {
        this.#socket.write(encodeKill(id));
        settle(error);
      };
      const onAbort = () => giveUp(aborted(command, signal));
      const timer = setTimeout(() => {
        const message = `no answer in ${timeoutMs} ms: ${command}`;
        giveUp(new GuestError('GUEST_TIMEOUT', message));
      }, timeoutMs);
      const settle = (outcome: CommandResult | GuestError): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#pending.delete(id);
        if (outcome instanceof GuestError) reject(outcome);
        else resolve(outcome);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#pending.set(id, { command, chunks: [], bytes: 0, settle });
      this.#socket.write(encodeRun(id, command));
    });
  }

  /**
   * Resolves once the guest answers. A request sent before the guest listens is lost, so probes are
   * repeated. Default limit: ten minutes, for many guests booting on few cores.
   * @throws GuestError GUEST_TIMEOUT, GUEST_ABORTED, GUEST_CLOSED
   */
  waitBoot(options: WaitOptions = {}): Promise<void> {
    const { timeoutMs = 600_000, signal } = options;
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) return reject(this.#closed);
      if (signal?.aborted) return reject(aborted('waiting for the guest', signal));
      const probe = () => this.#socket.write(encodeHello());
      const interval = setInterval(probe, BOOT_PROBE_MS);
      const timer = setTimeout(() => {
        heard(new GuestError('GUEST_TIMEOUT', `the guest did not answer in ${timeoutMs} ms`));
      }, timeoutMs);
      const onAbort = () => heard(aborted('waiting for the guest', signal));
      const heard = (failure?: GuestError): void => {
        clearInterval(interval);
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#listeners.delete(heard);
        if (failure === undefined) resolve();
        else reject(failure);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#listeners.add(heard);
      probe();
    });
  }

  /** Closes the channel. Running commands are not killed; their promises reject, GUEST_CLOSED. */
  close(): void {
    this.#end('the control channel was closed');
  }

  #receive(reply: GuestReply): void {
    for (const heard of this.#listeners) heard();
    if (reply.kind === 'ready') return;
    const pending = this.#pending.get(reply.id);
    if (pending === undefined) return;
    switch (reply.kind) {
      case 'output':
        this.#keep(reply.id, pending, reply.bytes);
        break;
      case 'exit': {
        const output = Buffer.concat(pending.chunks, pending.bytes).toString();
        pending.settle({ output, exitCode: reply.exitCode });
        break;
      }
      case 'refused': {
        const message = `${reply.reason}: ${pending.command}`;
        pending.settle(new GuestError('GUEST_REFUSED', message));
        break;
      }
    }
  }

  #keep(id: string, pending: Pending, bytes: Buffer): void {
    pending.bytes += bytes.length;
    pending.chunks.push(bytes);
    if (pending.bytes <= OUTPUT_BYTES_MAX) return;
    this.#socket.write(encodeKill(id));
    const message = `more than ${OUTPUT_BYTES_MAX} bytes of output: ${pending.command}`;
    pending.settle(new GuestError('GUEST_OUTPUT_LIMIT', message));
  }

  #end(message: string, cause?: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = new GuestError('GUEST_CLOSED', message, { cause });
    this.#socket.destroy();
    for (const pending of this.#pending.values()) pending.settle(this.#closed);
    for (const heard of this.#listeners) heard(this.#closed);
  }
}

function aborted(what: string, signal: AbortSignal | undefined): GuestError {
  const code: GuestErrorCode = 'GUEST_ABORTED';
  return new GuestError(code, `aborted: ${what}`, { cause: signal?.reason });
}

function dial(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}
