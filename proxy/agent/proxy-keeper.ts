/**
 * Keeps one member with a proxy, and knows which round it is in.
 *
 *     start ──▶ proxy ──ends──▶ another ──rescue──▶ proxy ──▶ …
 *                                  └── in a round, its VM may stand: it is put right at once, from the
 *                                      journal; the round hears of it when the VM runs again
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { MemberConfig } from '../config.ts';
import { toFailure, UmbraError } from '../failure.ts';
import type { MemberNotice, PrepareCommand, ProbeResult } from '../member/messages.ts';
import type { AgentCommand, AgentNotice } from './contract.ts';
import { MemberProxy } from './member-proxy.ts';

const RESCUE_RETRY_MS = 1_000;
const START_ATTEMPTS = 5;
const IN_ROUND: ProbeResult = { status: 'in a round', running: true, qemuVersion: '' };
const UNKNOWN: ProbeResult = { status: 'unknown', running: false, qemuVersion: '' };

/** Who wants to know of rounds. */
export interface RoundWatcher {
  onNotice(notice: AgentNotice): void;
  /** This member has left it, for whatever reason. */
  onLeft(round: string): void;
}

export class ProxyKeeper {
  readonly #config: MemberConfig;
  readonly #watcher: RoundWatcher;
  readonly #log: Logger;
  #proxy: MemberProxy | undefined;
  /** The round the proxy is in. */
  #round: string | undefined;
  /** The proxy that was told to prepare for it. */
  #preparedWith: MemberProxy | undefined;
  /** Settles when the proxy has ended and another has taken its place. */
  #replaced: Promise<void> = Promise.resolve();
  /** There may be a journal of a proxy that died. */
  #awaitsRescue = true;
  #closing = false;

  constructor(config: MemberConfig, watcher: RoundWatcher, log: Logger) {
    this.#config = config;
    this.#watcher = watcher;
    this.#log = log;
  }

  /** undefined before `start`; it may have ended. */
  get proxy(): MemberProxy | undefined {
    return this.#proxy;
  }

  /** @throws UmbraError E_PROXY_GONE */
  requireProxy(): MemberProxy {
    if (this.#proxy !== undefined) return this.#proxy;
    const { name: member } = this.#config;
    throw new UmbraError({ code: 'E_PROXY_GONE', message: 'this member has no proxy', member });
  }

  async start(): Promise<void> {
    const { name, qmp, libvirt, directory } = this.#config;
    const place = { member: name, qmp, directory, ...(libvirt && { libvirt }) };
    const proxy = await MemberProxy.start(place, this.#log);
    this.#proxy = proxy;
    proxy.onNotice((notice) => this.#onNotice(notice));
    const replaced = proxy.exited.then(() => this.#onGone());
    this.#replaced = replaced.catch((error: unknown) => {
      this.#log.error({ err: error, member: name }, 'could not replace a proxy');
    });
    if (this.#awaitsRescue) await this.#rescue(proxy);
  }

  /** What the VM does, as far as it can be told. */
  async probe(): Promise<ProbeResult> {
    if (this.#round !== undefined) return IN_ROUND;
    if (this.#proxy === undefined) return UNKNOWN;
    try {
      return await this.#proxy.request<ProbeResult>({ type: 'probe' });
    } catch (error) {
      return { ...UNKNOWN, status: toFailure(error, {}).code };
    }
  }

  /** Resolves when there is none any more; one in a round puts its VM right first. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#proxy?.close();
    await this.#replaced;
  }

  prepare(command: PrepareCommand): void {
    this.#round = command.round;
    this.#preparedWith = undefined;
    this.#withProxy((proxy) => {
      this.#preparedWith = proxy;
      proxy.command(command);
    });
  }

  command(inRound: string, type: AgentCommand): void {
    const round = this.#round;
    if (round === undefined) {
      // It left the round already; an abort wants to hear so.
      if (type === 'abort') this.#tellGone(inRound);
      return;
    }
    this.#withProxy((proxy) => proxy.command({ type, round }));
    if (type === 'commit') this.#leaveRound();
  }

  /** A sign of life, for a proxy in a round; one that has let as many pass as `silenceMs` is killed. */
  alive(silenceMs: number): void {
    if (this.#round === undefined || this.#proxy === undefined) return;
    this.#proxy.command({ type: 'alive' });
    if (this.#proxy.silentForMs <= silenceMs) return;
    // Frozen: it would hold its VM's monitor for ever, and the VM with it.
    this.#log.warn({ member: this.#config.name, silenceMs }, 'proxy silent; killing it');
    this.#proxy.kill();
  }

  /** Puts right what a dead proxy left, as its journal says. A failure is told, and tried again. */
  async #rescue(proxy: MemberProxy): Promise<void> {
    try {
      await proxy.request({ type: 'rescue' });
      this.#awaitsRescue = false;
    } catch (error) {
      const failure = toFailure(error, { member: this.#config.name, where: 'rescue' });
      this.#log.error({ failure }, 'could not put a VM right; trying again');
      if (!this.#closing) setTimeout(() => void this.#rescue(proxy), RESCUE_RETRY_MS);
    }
  }

  /**
   * The proxy ended. If that was in a round, its VM may stand: another proxy puts it right at once,
   * even when we are closing. The round hears of it afterwards, when the VM runs again.
   */
  async #onGone(): Promise<void> {
    const { name } = this.#config;
    const gone = this.#proxy;
    if (this.#closing && this.#round === undefined) return;
    this.#log.warn({ member: name, round: this.#round }, 'proxy gone; starting another');
    this.#awaitsRescue = true;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.start();
        break;
      } catch (error) {
        const failure = toFailure(error, { member: name, where: 'start proxy' });
        this.#log.error({ failure, attempt }, 'could not start a proxy');
        if (attempt >= START_ATTEMPTS) break;
        await delay(RESCUE_RETRY_MS);
      }
    }
    // Whatever round it is in by now was prepared with the proxy that is gone, or with none.
    const round = this.#round;
    if (round !== undefined && this.#preparedWith !== this.#proxy) {
      this.#leaveRound();
      this.#tellGone(round);
    }
    if (this.#closing && this.#proxy !== gone) await this.#proxy?.close();
  }

  #tellGone(round: string): void {
    const { name: member } = this.#config;
    const message = 'its proxy ended in the middle of the round';
    const failure = { code: 'E_PROXY_GONE', message, member };
    this.#watcher.onNotice({ type: 'report', member, round, report: 'gone', facts: {}, failure });
  }

  #onNotice(notice: MemberNotice): void {
    if (notice.round !== this.#round) return;
    if (notice.type === 'report' && notice.report === 'aborted') this.#leaveRound();
    this.#watcher.onNotice({ ...notice, member: this.#config.name });
  }

  #leaveRound(): void {
    const round = this.#round;
    this.#round = undefined;
    if (round !== undefined) this.#watcher.onLeft(round);
  }

  /** When the proxy is gone, its replacement reports that: #onGone is under way. */
  #withProxy(use: (proxy: MemberProxy) => void): void {
    if (this.#proxy?.isGone === false) use(this.#proxy);
  }
}
