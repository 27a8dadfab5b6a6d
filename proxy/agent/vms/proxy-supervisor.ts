/**
 * Keeps one member with a proxy, and knows which round it is in.
 *
 *     start ──▶ proxy ──ends──▶ another ──rescue──▶ proxy ──▶ …
 *                  ▲               └── in a round, its VM may stand: it is put right at once, from the
 *                  └── ends, too ──┘   journal; the round hears of it when the VM runs again
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';
import type { AgentCommand, AgentNotice } from '../../protocol/agent.ts';
import type { MemberConfig } from '../../protocol/cluster.ts';
import type {
  MemberLocation,
  MemberNotice,
  PrepareCommand,
  ProbeResult,
} from '../../protocol/member.ts';
import { MemberProxy } from './member-proxy.ts';

const RETRY_MS = 1_000;
/** A host that starts no process for long is asked no more often than this; it may again at any time. */
const LONGEST_RETRY_MS = 60_000;
/** For a VM to be put right when we start, as far as anybody waits for that. */
const START_LIMIT_MS = 150_000;
/** So many proxies in a row that could not put a VM right, or not even start: the round is told, others follow. */
const ATTEMPTS = 5;
/**
 * A snapshot of all of a VM's memory is part of some rescues, so this is no limit: the proxy has its own, and its
 * signs of life tell that it is at it.
 */
const RESCUE_LIMIT_MS = 24 * 3_600_000;
/** What a request is refused with whose proxy ends, or is killed for its silence. */
const LOST: ReadonlySet<string> = new Set(['E_PROXY_GONE', 'E_PROXY_SILENT']);
const IN_ROUND: ProbeResult = { status: 'in a round', running: true, qemuVersion: '' };
const UNKNOWN: ProbeResult = { status: 'unknown', running: false, qemuVersion: '' };

/** Who wants to know of rounds. */
export interface RoundWatcher {
  onNotice(notice: AgentNotice): void;
  /** This member has left it, for whatever reason. */
  onLeft(round: string): void;
}

/** Where proxies and time come from; tests have their own. */
export interface SupervisorServices {
  startProxy(location: MemberLocation, log: Logger): Promise<MemberProxy>;
  /** @param signal ends it early */
  pause(ms: number, signal?: AbortSignal): Promise<unknown>;
}

const REAL_SERVICES: SupervisorServices = { startProxy: MemberProxy.start, pause };

export class ProxySupervisor {
  readonly #config: MemberConfig;
  readonly #watcher: RoundWatcher;
  readonly #log: Logger;
  readonly #services: SupervisorServices;
  #proxy: MemberProxy | undefined;
  /** The round the proxy is in. */
  #round: string | undefined;
  /** The proxy that was told to prepare for it. */
  #preparedWith: MemberProxy | undefined;
  /** Settles when no proxy that ends is replaced any more. */
  #kept: Promise<void> = Promise.resolve();
  /** Proxies that were to take another's place, since the VM was known to be right. */
  #attempts = 0;
  readonly #closing = new AbortController();

  constructor(
    config: MemberConfig,
    watcher: RoundWatcher,
    log: Logger,
    services: SupervisorServices = REAL_SERVICES,
  ) {
    this.#config = config;
    this.#watcher = watcher;
    this.#log = log;
    this.#services = services;
  }

  /** undefined before `start`; it may have ended. */
  get proxy(): MemberProxy | undefined {
    return this.#proxy;
  }

  /** @throws UmbraError E_PROXY_GONE */
  requireProxy(): MemberProxy {
    if (this.#proxy?.isGone === false) return this.#proxy;
    const { name: member } = this.#config;
    throw new UmbraError({ code: 'E_PROXY_GONE', message: 'this member has no proxy', member });
  }

  /** Also puts right what an earlier life left; what refuses that is told in the log, and tried again. */
  async start(): Promise<void> {
    const proxy = await this.#startProxy();
    this.#kept = this.#keep(proxy).catch((error: unknown) => {
      this.#log.error({ err: error, member: this.#config.name }, 'could not replace a proxy');
    });
    // One that takes longer goes on: the other members need not wait for it.
    await settles(this.#rescue(proxy), START_LIMIT_MS);
  }

  async #startProxy(): Promise<MemberProxy> {
    const { name, qmp, libvirt, directory } = this.#config;
    const domain = { member: name, qmp, directory, ...(libvirt && { libvirt }) };
    const proxy = await this.#services.startProxy(domain, this.#log);
    this.#proxy = proxy;
    proxy.onNotice((notice) => this.#onNotice(notice));
    return proxy;
  }

  /** What the VM does, as far as it can be told. */
  async probe(): Promise<ProbeResult> {
    if (this.#round !== undefined) return IN_ROUND;
    if (this.#proxy === undefined) return UNKNOWN;
    try {
      return await this.#proxy.request({ type: 'probe' });
    } catch (error) {
      return { ...UNKNOWN, status: toFailure(error, {}).code };
    }
  }

  /** Resolves when there is none any more; one in a round puts its VM right first. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#proxy?.close();
    await this.#kept;
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
    // Another than was told of the round answers for it when it has put the VM right, and not before.
    if (this.#preparedWith === this.#proxy) {
      this.#withProxy((proxy) => proxy.command({ type, round }));
    }
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

  /**
   * Puts right what a dead proxy left, as its journal says: then the round hears of it. A proxy that refuses
   * has tried for a minute: the round is told, and it tries again. One that ends leaves it to the next.
   */
  async #rescue(proxy: MemberProxy): Promise<void> {
    // A round begun since has a journal of its own, and puts right what it finds.
    if (this.#round !== undefined && this.#preparedWith === proxy) return;
    try {
      await proxy.request({ type: 'rescue' }, RESCUE_LIMIT_MS);
      this.#attempts = 0;
      this.#tellLost();
    } catch (error) {
      const failure = toFailure(error, { member: this.#config.name, where: 'rescue' });
      const lost = LOST.has(failure.code) || proxy !== this.#proxy || proxy.isGone;
      this.#log.error({ failure, lost }, 'could not put a VM right; trying again');
      if (lost) return;
      this.#tellLost();
      if (this.#closing.signal.aborted) return;
      void this.#services.pause(RETRY_MS).then(() => this.#rescue(proxy));
    }
  }

  /** Whichever proxy ends, another takes its place, until we close. */
  async #keep(first: MemberProxy): Promise<void> {
    for (let proxy: MemberProxy | undefined = first; proxy !== undefined; ) {
      await proxy.exited;
      proxy = await this.#another();
    }
  }

  /**
   * A proxy ended. If that was in a round, its VM may stand: another puts it right at once, even when we
   * are closing.
   * @returns undefined when there is to be none
   */
  async #another(): Promise<MemberProxy | undefined> {
    const { name } = this.#config;
    while (!this.#closing.signal.aborted || this.#round !== undefined) {
      if (this.#attempts >= ATTEMPTS) this.#tellLost();
      this.#log.warn({ member: name, round: this.#round }, 'proxy gone; starting another');
      await this.#pause();
      if (this.#closing.signal.aborted && this.#round === undefined) break;
      this.#attempts++;
      try {
        const proxy = await this.#startProxy();
        void this.#rescue(proxy).then(() =>
          this.#closing.signal.aborted ? proxy.close() : undefined,
        );
        return proxy;
      } catch (error) {
        const failure = toFailure(error, { member: name, where: 'start proxy' });
        this.#log.error({ failure, attempt: this.#attempts }, 'could not start a proxy');
      }
    }
    return undefined;
  }

  /** None before the first attempt. Who closes waits for one only where a round may have left a VM standing. */
  async #pause(): Promise<void> {
    if (this.#attempts === 0) return;
    const doubled = RETRY_MS * 2 ** Math.max(0, this.#attempts - ATTEMPTS);
    const signal = this.#round === undefined ? this.#closing.signal : undefined;
    await this.#services.pause(Math.min(doubled, LONGEST_RETRY_MS), signal);
  }

  /** Unless the round it is in was prepared with the proxy there is now. */
  #tellLost(): void {
    const round = this.#round;
    const told = this.#preparedWith;
    if (round === undefined || (told === this.#proxy && told?.isGone === false)) return;
    this.#leaveRound();
    this.#tellGone(round);
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

  /** When the proxy is gone, its replacement reports that: #another is under way. */
  #withProxy(use: (proxy: MemberProxy) => void): void {
    if (this.#proxy?.isGone === false) use(this.#proxy);
  }
}

async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal && { signal }).catch(() => {});
}
