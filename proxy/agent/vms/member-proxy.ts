/**
 * The agent's end of one proxy process: starts it, talks to it, and says when it is gone.
 *
 * A proxy that does not answer is killed: a frozen one would hold its VM's monitor for ever.
 */
import { type ChildProcess, fork } from 'node:child_process';
import type { Logger } from 'pino';
import { type Failure, UmbraError } from '../../failure/failure.ts';
import { programPath } from '../../host/program.ts';
import type {
  FromProxy,
  MemberLocation,
  MemberNotice,
  MemberRequest,
  RoundCommand,
  ToProxy,
} from '../../protocol/member.ts';
import { ASK_EVERY_MS, SignsOfLife } from './signs-of-life.ts';

const READY_DEADLINE_MS = 20_000;
const REQUEST_DEADLINE_MS = 150_000;

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: UmbraError) => void;
}

export class MemberProxy {
  readonly location: MemberLocation;
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  readonly #exited: Promise<void>;
  #onNotice: (notice: MemberNotice) => void = () => {};
  #nextId = 1;
  #gone = false;
  #askedAt: number | undefined;
  readonly #signs = new SignsOfLife();
  /** Asks for them, while an answer is owed. */
  #asking: NodeJS.Timeout | undefined;

  /** Starts a proxy and waits until it listens. */
  static async start(location: MemberLocation, log: Logger): Promise<MemberProxy> {
    const proxy = new MemberProxy(location, log);
    await proxy.#ready;
    return proxy;
  }

  readonly #ready: Promise<void>;

  private constructor(location: MemberLocation, log: Logger) {
    this.location = location;
    this.#child = fork(programPath('proxy/member/process'), [], {
      detached: true,
      env: { ...process.env, UMBRA_LOG: log.level },
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#ready = new Promise((resolve, reject) => {
      const fail = () => reject(this.#goneError());
      const timer = setTimeout(() => this.kill(), READY_DEADLINE_MS);
      this.#child.once('exit', fail);
      this.#child.once('error', fail);
      this.#child.on('message', (message: FromProxy) => {
        if (message.kind === 'ready') {
          clearTimeout(timer);
          resolve();
        } else this.#receive(message);
      });
    });
    this.#exited = new Promise((resolve) => {
      const onGone = () => {
        this.#gone = true;
        this.#refuseAll(this.#goneError());
        resolve();
      };
      this.#child.once('exit', onGone);
      // It could not be started, or not be told something: either way it is of no use.
      this.#child.once('error', () => {
        this.#child.kill('SIGKILL');
        if (this.#child.pid === undefined) onGone();
      });
    });
    this.#send({ kind: 'place', place: location });
  }

  /**
   * Milliseconds it has left a sign of life unanswered. Counted from when it was asked, not from
   * when it last spoke: had we been frozen ourselves, the silence would be ours.
   */
  get silentForMs(): number {
    return this.#askedAt === undefined ? 0 : performance.now() - this.#askedAt;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isGone(): boolean {
    return this.#gone;
  }

  /** Resolves when the process has ended, for whatever reason. */
  get exited(): Promise<void> {
    return this.#exited;
  }

  onNotice(listener: (notice: MemberNotice) => void): void {
    this.#onNotice = listener;
  }

  command(command: RoundCommand): void {
    if (command.type === 'alive') this.#askedAt ??= performance.now();
    this.#send({ kind: 'command', command });
  }

  /** @throws UmbraError with the proxy's own failure, E_PROXY_GONE or E_PROXY_SILENT */
  request<T>(request: MemberRequest, limitMs = REQUEST_DEADLINE_MS): Promise<T> {
    if (this.#gone) return Promise.reject(this.#goneError());
    const id = this.#nextId++;
    return new Promise<unknown>((resolve, reject) => {
      const timer = setTimeout(() => {
        const message = `the proxy did not answer ${request.type}`;
        reject(this.#error('E_PROXY_SILENT', message));
        this.kill();
      }, limitMs);
      const settle =
        <A>(done: (answer: A) => void) =>
        (answer: A) => {
          clearTimeout(timer);
          done(answer);
        };
      this.#pending.set(id, { resolve: settle(resolve), reject: settle(reject) });
      this.#send({ kind: 'request', id, request });
      this.#asking ??= setInterval(() => this.#ask(), ASK_EVERY_MS);
    }) as Promise<T>;
  }

  /** Frozen, it would have whoever waits for it wait as long as the longest request may take. */
  #ask(): void {
    if (this.#signs.ask()) {
      this.#send({ kind: 'command', command: { type: 'alive' } });
      return;
    }
    this.#refuseAll(this.#error('E_PROXY_SILENT', 'the proxy of this member has fallen silent'));
    this.kill();
  }

  #refuseAll(error: UmbraError): void {
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#askNoMore();
  }

  #askNoMore(): void {
    clearInterval(this.#asking);
    this.#asking = undefined;
    this.#signs.heard();
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Lets go of the process: an idle proxy leaves by itself when its parent hangs up. */
  async close(): Promise<void> {
    if (this.#gone) return;
    if (this.#child.connected) this.#child.disconnect();
    await this.#exited;
  }

  #receive(message: FromProxy): void {
    this.#askedAt = undefined;
    this.#signs.heard();
    if (message.kind === 'notice') this.#onNotice(message.notice);
    if (message.kind === 'reply') this.#settle(message.id)?.resolve(message.result);
    if (message.kind === 'refusal') {
      this.#settle(message.id)?.reject(new UmbraError(message.failure));
    }
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#askNoMore();
    return pending;
  }

  #send(message: ToProxy): void {
    if (!this.#gone && this.#child.connected) this.#child.send(message, () => {});
  }

  #goneError(): UmbraError {
    return this.#error('E_PROXY_GONE', 'the proxy of this member ended');
  }

  #error(code: Failure['code'], message: string): UmbraError {
    return new UmbraError({ code, message, member: this.location.member });
  }
}
