/**
 * Keeps one member with a proxy, and knows which round it is in.
 *
 *     start ──▶ proxy ──ends──▶ another ──repair──▶ proxy ──▶ …
 *                  ▲               └── in a round, its VM may be stopped: it is repaired at once,
 *                  └── ends, too ──┘   by the journal; the round is told when the VM runs again
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
/** The longest pause between attempts, for a host that starts no process for a long time. */
const LONGEST_RETRY_MS = 60_000;
/** Time that `start` waits for a VM to be repaired; the repair may take longer. */
const START_LIMIT_MS = 150_000;
/**
 * Proxies in a row that could not repair a VM, or not even start, until the round is told. More
 * follow.
 */
const ATTEMPTS = 5;
/**
 * Time for a repair. Some repairs include a snapshot of all of a VM's memory, so this limit is
 * never reached: the proxy has limits of its own, and its signs of life tell that it works.
 */
const REPAIR_LIMIT_MS = 24 * 3_600_000;
/** Codes of a request whose proxy has ended, or was killed for its silence. */
const LOST: ReadonlySet<string> = new Set(['E_PROXY_GONE', 'E_PROXY_SILENT']);
const IN_ROUND: ProbeResult = { status: 'in a round', running: true, qemuVersion: '' };
const UNKNOWN: ProbeResult = { status: 'unknown', running: false, qemuVersion: '' };

/** The receiver of news about rounds. */
export interface RoundWatcher {
  onNotice(notice: AgentNotice): void;
  /** Tells that this member has left the round, for any reason. */
  onLeft(round: string): void;
}

/** The source of proxies and of time; tests have their own. */
export interface SupervisorServices {
  startProxy(location: MemberLocation, log: Logger): Promise<MemberProxy>;
  /** @param signal ends the pause early */
  pause(ms: number, signal?: AbortSignal): Promise<unknown>;
}

const REAL_SERVICES: SupervisorServices = {
  startProxy: (location, log) => MemberProxy.start(location, log),
  pause,
};

/** The supervisor of one member's proxy. */
export class ProxySupervisor {
  readonly #config: MemberConfig;
  readonly #watcher: RoundWatcher;
  readonly #log: Logger;
  readonly #services: SupervisorServices;
  #proxy: MemberProxy | undefined;
  /** The round the proxy is in. */
  #round: string | undefined;
  /** The proxy that was told to prepare for that round. */
  #preparedWith: MemberProxy | undefined;
  /** Settles when proxies that end are no longer replaced. */
  #kept: Promise<void> = Promise.resolve();
  /** Proxies that were started in place of another one since the VM was last known to run. */
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

  /** Returns the newest proxy, which may have ended; undefined before `start`. */
  get proxy(): MemberProxy | undefined {
    return this.#proxy;
  }

  /** Returns a proxy that has not ended. @throws UmbraError E_PROXY_GONE */
  requireProxy(): MemberProxy {
    if (this.#proxy?.isGone === false) return this.#proxy;
    const { name: member } = this.#config;
    throw new UmbraError({ code: 'E_PROXY_GONE', message: 'this member has no proxy', member });
  }

  /**
   * Starts a proxy, and has it repair what an earlier life of the agent has left. A repair that
   * fails is logged and tried again.
   */
  async start(): Promise<void> {
    const proxy = await this.#startProxy();
    this.#kept = this.#keep(proxy).catch((error: unknown) => {
      this.#log.error({ err: error, member: this.#config.name }, 'could not replace a proxy');
    });
    // A repair that takes longer continues: the other members do not wait for it.
    await settles(this.#repair(proxy), START_LIMIT_MS);
  }

  async #startProxy(): Promise<MemberProxy> {
    const { name, qmp, libvirt, directory } = this.#config;
    const domain = { member: name, qmp, directory, ...(libvirt && { libvirt }) };
    const proxy = await this.#services.startProxy(domain, this.#log);
    this.#proxy = proxy;
    proxy.onNotice((notice) => this.#onNotice(notice));
    return proxy;
  }

  /** Returns the VM's state as far as the proxy can tell. */
  async probe(): Promise<ProbeResult> {
    if (this.#round !== undefined) return IN_ROUND;
    if (this.#proxy === undefined) return UNKNOWN;
    try {
      return await this.#proxy.request({ type: 'probe' });
    } catch (error) {
      return { ...UNKNOWN, status: toFailure(error, {}).code };
    }
  }

  /** Ends the proxy; one that is in a round repairs its VM first. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#proxy?.close();
    await this.#kept;
  }

  /** Begins a round: sends the proxy its settings. */
  prepare(command: PrepareCommand): void {
    this.#round = command.round;
    this.#preparedWith = undefined;
    this.#withProxy((proxy) => {
      this.#preparedWith = proxy;
      proxy.command(command);
    });
  }

  /** Sends the proxy a command of a round; dropped if the member has left that round. */
  command(inRound: string, type: AgentCommand): void {
    const round = this.#round;
    if (round === undefined) {
      // The member has left the round already; an abort expects to be told.
      if (type === 'abort') this.#tellGone(inRound);
      return;
    }
    // A proxy that does not know the round reports once it has repaired the VM, and not before.
    if (this.#preparedWith === this.#proxy) {
      this.#withProxy((proxy) => proxy.command({ type, round }));
    }
    if (type === 'commit') this.#leaveRound();
  }

  /**
   * Sends a sign of life to a proxy that is in a round, and kills a proxy that has been silent.
   * @param silenceMs the longest silence that is allowed, milliseconds
   */
  alive(silenceMs: number): void {
    if (this.#round === undefined || this.#proxy === undefined) return;
    this.#proxy.command({ type: 'alive' });
    if (this.#proxy.silentForMs <= silenceMs) return;
    // A frozen proxy would hold its VM's monitor for ever, and keep the VM stopped.
    this.#log.warn({ member: this.#config.name, silenceMs }, 'proxy silent; killing it');
    this.#proxy.kill();
  }

  /**
   * Repairs what a dead proxy has left, by its journal; then the round is told. A proxy that fails
   * has tried for a minute: the round is told, and it tries again. If it ends, the next proxy
   * continues.
   */
  async #repair(proxy: MemberProxy): Promise<void> {
    // A round that has begun since has a journal of its own, and repairs what it finds.
    if (this.#round !== undefined && this.#preparedWith === proxy) return;
    try {
      await proxy.request({ type: 'repair' }, REPAIR_LIMIT_MS);
      this.#attempts = 0;
      this.#tellLost();
    } catch (error) {
      const failure = toFailure(error, { member: this.#config.name, where: 'repair' });
      const lost = LOST.has(failure.code) || proxy !== this.#proxy || proxy.isGone;
      this.#log.error({ failure, lost }, 'could not repair a VM; trying again');
      if (lost) return;
      this.#tellLost();
      if (this.#closing.signal.aborted) return;
      void this.#services.pause(RETRY_MS).then(() => this.#repair(proxy));
    }
  }

  /** Replaces every proxy that ends, until `close`. */
  async #keep(first: MemberProxy): Promise<void> {
    for (let proxy: MemberProxy | undefined = first; proxy !== undefined; ) {
      await proxy.exited;
      proxy = await this.#another();
    }
  }

  /**
   * Starts another proxy after one has ended. If that was in a round, its VM may be stopped: the
   * new proxy repairs it at once, even while the supervisor closes.
   * @returns undefined if no proxy is needed any more
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
        void this.#repair(proxy).then(() =>
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

  /**
   * Waits before an attempt that is not the first. `close` cuts the pause short, unless a round may
   * have left a VM stopped.
   */
  async #pause(): Promise<void> {
    if (this.#attempts === 0) return;
    const doubled = RETRY_MS * 2 ** Math.max(0, this.#attempts - ATTEMPTS);
    const signal = this.#round === undefined ? this.#closing.signal : undefined;
    await this.#services.pause(Math.min(doubled, LONGEST_RETRY_MS), signal);
  }

  /**
   * Tells the round that its proxy is lost, unless the present proxy is the one it was prepared
   * with.
   */
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

  /** Uses the proxy if it has not ended. If it has, `#another` is under way, and reports that. */
  #withProxy(use: (proxy: MemberProxy) => void): void {
    if (this.#proxy?.isGone === false) use(this.#proxy);
  }
}

async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal && { signal }).catch(() => {});
}
