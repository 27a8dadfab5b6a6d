/**
 * QMP over a unix socket.
 *
 *     connecting ──greeting──▶ negotiating ──qmp_capabilities──▶ ready ──close/error──▶ closed
 *
 * Commands carry an id and a deadline, so a dead or silent QEMU is an error and never a hang.
 * A command that timed out or was aborted is forgotten; its late answer is dropped by its id.
 */
import { connect, type Socket } from 'node:net';
import type { QmpArguments, QmpCommandName, QmpResult } from './commands.ts';
import { QmpError } from './errors.ts';
import { DEFAULT_MESSAGE_LIMIT_BYTES, LineFramer } from './framing.ts';
import { parseMessage, type QemuVersion, type QmpEvent, type QmpMessage } from './protocol.ts';

const DEFAULT_DEADLINE_MS = 10_000;

export interface QmpConnectOptions {
  /** Deadline of connection and greeting together, milliseconds. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly messageLimitBytes?: number;
}

export interface QmpExecuteOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Sends bytes with a descriptor over a socket. @returns the bytes sent; -1 if it failed */
export type SendDescriptor = (socket: number, bytes: Uint8Array) => number;

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: QmpError) => void;
}

export class QmpClient {
  readonly socketPath: string;
  readonly #socket: Socket;
  readonly #framer: LineFramer;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #closed: Promise<QmpError>;
  #announceClosed: (error: QmpError) => void = () => {};
  #failure: QmpError | undefined;
  #nextId = 1;
  #version: QemuVersion | undefined;
  #greeted: () => void = () => {};

  /**
   * Connects, reads the greeting and negotiates capabilities.
   * @throws QmpError E_QMP_CONNECT, E_QMP_NOT_QMP, E_QMP_SILENT, E_QMP_CLOSED, E_QMP_ABORTED
   */
  static async connect(socketPath: string, options: QmpConnectOptions = {}): Promise<QmpClient> {
    const { timeoutMs = DEFAULT_DEADLINE_MS, signal } = options;
    const client = new QmpClient(socketPath, options.messageLimitBytes);
    try {
      const greeting = new Promise<void>((resolve) => {
        client.#greeted = resolve;
      });
      const failed = client.#closed.then((error) => Promise.reject(error));
      await withDeadline(Promise.race([greeting, failed]), timeoutMs, signal, () =>
        client.#silent(timeoutMs),
      );
      await client.#send('qmp_capabilities', undefined, { timeoutMs, ...(signal && { signal }) });
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  private constructor(socketPath: string, limitBytes = DEFAULT_MESSAGE_LIMIT_BYTES) {
    this.socketPath = socketPath;
    this.#framer = new LineFramer(limitBytes);
    this.#closed = new Promise((resolve) => {
      this.#announceClosed = resolve;
    });
    this.#socket = connect(socketPath);
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on('error', (cause) => this.#fail(this.#socketError(cause)));
    this.#socket.on('close', () => {
      this.#fail(this.#error('E_QMP_CLOSED', 'QEMU closed its monitor: it exited or was killed'));
    });
  }

  /** Returns QEMU's version, from the greeting. */
  get version(): QemuVersion {
    if (this.#version === undefined) throw this.#error('E_QMP_SILENT', 'no greeting yet');
    return this.#version;
  }

  /** Resolves with the reason when the connection has ended; never rejects. */
  get closed(): Promise<QmpError> {
    return this.#closed;
  }

  get isOpen(): boolean {
    return this.#failure === undefined;
  }

  /**
   * Runs one command.
   * @throws QmpError E_QMP_COMMAND (QEMU's class and text kept), E_QMP_TIMEOUT, E_QMP_CLOSED,
   *   E_QMP_ABORTED
   */
  execute<C extends QmpCommandName>(
    command: C,
    ...rest: QmpArguments<C> extends undefined
      ? [args?: undefined, options?: QmpExecuteOptions]
      : [args: QmpArguments<C>, options?: QmpExecuteOptions]
  ): Promise<QmpResult<C>> {
    const [args, options = {}] = rest;
    return this.#send(command, args, options) as Promise<QmpResult<C>>;
  }

  /**
   * Calls `listener` for each event from now on, in order. A listener that throws ends the
   * connection.
   * @returns a function that removes the listener
   */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Drops the connection; QEMU runs on. Pending commands fail with E_QMP_CLOSED. */
  close(): void {
    this.#fail(this.#error('E_QMP_CLOSED', 'the monitor connection was closed by its owner'));
  }

  /**
   * Gives QEMU a descriptor, which opens as `/dev/fdset/SET` from then on (`add-fd`). No other
   * command may be under way.
   * @param send sends bytes and the descriptor over a socket, and returns the bytes sent
   * @throws QmpError as `execute` does
   */
  async giveDescriptor(set: number, send: SendDescriptor): Promise<void> {
    const socket = descriptorOf(this.#socket);
    const write = (line: string) => {
      const bytes = Buffer.from(line);
      if (socket !== undefined && send(socket, bytes) === bytes.length) return;
      this.#fail(this.#error('E_QMP_CLOSED', 'the monitor takes no descriptor'));
    };
    await this.#send('add-fd', { 'fdset-id': set }, {}, write);
  }

  #send(
    command: string,
    args: unknown,
    options: QmpExecuteOptions,
    write: (line: string) => void = (line) => this.#socket.write(line),
  ): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const { timeoutMs = DEFAULT_DEADLINE_MS, signal } = options;
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject });
    });
    const request = { execute: command, id, ...(args === undefined ? {} : { arguments: args }) };
    write(`${JSON.stringify(request)}\n`);
    const late = () =>
      this.#error('E_QMP_TIMEOUT', `no answer to ${command} within ${timeoutMs} ms`, { command });
    return withDeadline(answer, timeoutMs, signal, late).finally(() => this.#pending.delete(id));
  }

  #receive(chunk: Buffer): void {
    try {
      this.#framer.push(chunk, (line) => this.#dispatch(parseMessage(line)));
    } catch (error) {
      this.#fail(error instanceof QmpError ? this.#located(error) : this.#socketError(error));
    }
  }

  #dispatch(message: QmpMessage): void {
    if (!this.isOpen) return; // an earlier line of this chunk has ended the connection
    switch (message.kind) {
      case 'greeting':
        this.#version = message.version;
        this.#greeted();
        break;
      case 'event':
        for (const listener of this.#listeners) this.#tell(listener, message.event);
        break;
      case 'return':
        this.#answered(message.id)?.resolve(message.value);
        break;
      case 'error': {
        const away = this.#away(message);
        if (away !== undefined) {
          this.#fail(away);
          break;
        }
        const pending = this.#answered(message.id);
        const { qemuClass, description } = message;
        const context = { command: pending?.command, qemuClass };
        pending?.reject(this.#error('E_QMP_COMMAND', description, context));
      }
    }
  }

  /**
   * Calls a listener. If it throws, the connection fails with E_QMP_LISTENER: the fault is Umbra's,
   * not QEMU's. The other listeners are still called.
   */
  #tell(listener: (event: QmpEvent) => void, event: QmpEvent): void {
    try {
      listener(event);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const message = `a listener failed at ${event.name}: ${why}`;
      this.#fail(this.#error('E_QMP_LISTENER', message, { cause }));
    }
  }

  /** Recognises the error line of a bridge (libvirt/monitor-bridge.ts) whose other end is away. */
  #away({ id, qemuClass, description }: QmpMessage & { kind: 'error' }): QmpError | undefined {
    const greeted = this.#version !== undefined;
    if (greeted && (id !== undefined || !qemuClass.startsWith('E_LIBVIRT'))) return undefined;
    const gone = greeted ? 'E_QMP_CLOSED' : 'E_QMP_CONNECT';
    const code = qemuClass === 'E_LIBVIRT_DOMAIN' ? gone : 'E_QMP_AWAY';
    return this.#error(code, `${qemuClass}: ${description}`);
  }

  #answered(id: number | undefined): Pending | undefined {
    return id === undefined ? undefined : this.#pending.get(id);
  }

  #fail(error: QmpError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#socket.destroy();
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#announceClosed(error);
  }

  #silent(timeoutMs: number): QmpError {
    return this.#error(
      'E_QMP_SILENT',
      `no QMP greeting within ${timeoutMs} ms: another client holds this monitor, ` +
        'or QEMU does not respond',
    );
  }

  #socketError(cause: unknown): QmpError {
    const { code, message } = cause as NodeJS.ErrnoException;
    const known = code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'EACCES';
    if (known) return this.#error('E_QMP_CONNECT', `cannot open the monitor: ${code}`, { cause });
    // The monitor's backlog is full of clients that wait for their turn.
    if (code === 'EAGAIN') return this.#silent(0);
    return this.#error('E_QMP_CLOSED', message, { cause });
  }

  #located(error: QmpError): QmpError {
    return this.#error(error.code, error.message, { cause: error.cause });
  }

  #error(
    code: QmpError['code'],
    message: string,
    context: { command?: string | undefined; qemuClass?: string; cause?: unknown } = {},
  ): QmpError {
    return new QmpError(code, `${message} (${this.socketPath})`, {
      socket: this.socketPath,
      ...context,
    });
  }
}

/** Returns a socket's descriptor, which Node keeps to itself; undefined once it is closed. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as { _handle?: { fd?: number } | null };
  return handle?.fd;
}

async function withDeadline<T>(
  work: Promise<T>,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  late: () => QmpError,
): Promise<T> {
  let release: () => void = () => {};
  const limit = new Promise<never>((_, reject) => {
    const onAbort = () =>
      reject(new QmpError('E_QMP_ABORTED', 'aborted by the caller', { cause: signal?.reason }));
    const timer = setTimeout(() => reject(late()), timeoutMs);
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    release = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
  });
  // The one that loses the race must not become an unhandled rejection.
  work.catch(() => {});
  limit.catch(() => {});
  return Promise.race([work, limit]).finally(release);
}
