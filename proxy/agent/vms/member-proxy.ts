/**
 * The agent's end of one proxy process: starts it, sends it requests and commands, kills a silent
 * one.
 *
 * A proxy that does not answer is killed: a frozen one would hold its VM's monitor for ever.
 */
import type { Logger } from 'pino';
import { type Failure, UmbraError } from '../../failure/failure.ts';
import { Child } from '../../host/child.ts';
import { programPath } from '../../host/program.ts';
import {
  AGENT_CALLS,
  type MemberLocation,
  type MemberNotice,
  type MemberRequest,
  type MemberResults,
  PROXY_CALLS,
  type RoundCommand,
  warmNoticeSchema,
} from '../../protocol/member.ts';
import { ASK_EVERY_MS, SignsOfLife } from './signs-of-life.ts';

const PROGRAM = programPath('proxy/member/process');
const READY_DEADLINE_MS = 20_000;
const REQUEST_DEADLINE_MS = 150_000;

export class MemberProxy {
  readonly location: MemberLocation;
  readonly #child: Child<typeof PROXY_CALLS, typeof AGENT_CALLS>;
  #onNotice: (notice: MemberNotice) => void = () => {};
  #askedAt: number | undefined;
  /** Requests without an answer yet. */
  #owed = 0;
  readonly #signs = new SignsOfLife();
  /** Asks for signs of life while an answer is owed. */
  #asking: NodeJS.Timeout | undefined;

  /**
   * Starts a proxy, and waits until it is ready: its monitor can be reached.
   * @param program path of the proxy's program
   * @throws UmbraError with the proxy's own failure, or E_PROXY_GONE
   */
  static async start(
    location: MemberLocation,
    log: Logger,
    program: string = PROGRAM,
  ): Promise<MemberProxy> {
    const proxy = new MemberProxy(location, log, program);
    const timer = setTimeout(() => proxy.kill(), READY_DEADLINE_MS);
    try {
      const opened = proxy.#child.channel.call('open', location);
      warmNoticeSchema(); // the child takes longer to start
      await opened;
      return proxy;
    } catch (error) {
      proxy.kill();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  private constructor(location: MemberLocation, log: Logger, program: string) {
    this.location = location;
    this.#child = new Child(program, {
      remote: PROXY_CALLS,
      local: AGENT_CALLS,
      handlers: { notice: (notice) => this.#onNotice(notice), alive: () => {} },
      env: { UMBRA_LOG: log.level },
      gone: () => this.#error('E_PROXY_GONE', 'the proxy of this member ended'),
      onHeard: () => {
        this.#askedAt = undefined;
        this.#signs.heard();
      },
      onMisfit: (failure) => {
        log.error({ failure, member: location.member }, 'a proxy is not understood; killing it');
        this.kill();
      },
    });
  }

  /**
   * Returns for how long a sign of life is unanswered, milliseconds. It counts from the question,
   * not from the proxy's last message: if this process was frozen itself, the silence is its own.
   */
  get silentForMs(): number {
    return this.#askedAt === undefined ? 0 : performance.now() - this.#askedAt;
  }

  get pid(): number {
    return this.#child.pid;
  }

  get isGone(): boolean {
    return this.#child.isGone;
  }

  /** Resolves when the process has ended, for whatever reason. */
  get exited(): Promise<void> {
    return this.#child.ended;
  }

  /** Takes the place of an earlier listener. */
  onNotice(listener: (notice: MemberNotice) => void): void {
    this.#onNotice = listener;
  }

  /** Sends a command of a round; it is answered by notices. */
  command(command: RoundCommand): void {
    if (command.type === 'alive') this.#askedAt ??= performance.now();
    this.#child.channel.tell('command', command);
  }

  /**
   * Sends a request, and waits for its answer.
   * @throws UmbraError with the proxy's own failure, E_PROXY_GONE or E_PROXY_SILENT
   */
  async request<R extends MemberRequest>(
    request: R,
    limitMs = REQUEST_DEADLINE_MS,
  ): Promise<MemberResults[R['type']]> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const message = `the proxy did not answer ${request.type}`;
        reject(this.#error('E_PROXY_SILENT', message));
        this.kill();
      }, limitMs);
    });
    this.#owed++;
    this.#asking ??= setInterval(() => this.#ask(), ASK_EVERY_MS);
    try {
      return await Promise.race([this.#answer(request), late]);
    } finally {
      clearTimeout(timer);
      this.#owed--;
      if (this.#owed === 0) this.#stopAsking();
    }
  }

  #answer<R extends MemberRequest>(request: R): Promise<MemberResults[R['type']]> {
    const answer: Promise<unknown> = this.#child.channel.call(request.type, request);
    return answer as Promise<MemberResults[R['type']]>;
  }

  /** Asks for a sign of life: a frozen proxy would delay its caller for the longest of limits. */
  #ask(): void {
    if (this.#signs.ask()) {
      this.#child.channel.tell('command', { type: 'alive' });
      return;
    }
    const message = 'the proxy of this member has fallen silent';
    this.#child.channel.refuse(this.#error('E_PROXY_SILENT', message));
    this.kill();
  }

  #stopAsking(): void {
    clearInterval(this.#asking);
    this.#asking = undefined;
    this.#signs.heard();
  }

  kill(): void {
    this.#child.kill();
  }

  /** Hangs up, and waits for its end. A proxy in a round ends the round for its member first. */
  async close(): Promise<void> {
    this.#child.hangUp();
    await this.#child.ended;
  }

  #error(code: Failure['code'], message: string): UmbraError {
    return UmbraError.received({ code, message, member: this.location.member });
  }
}
