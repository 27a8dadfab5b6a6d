/**
 * The proxy of one member, as a process of its own: a fault in one stream ends one proxy, and
 * members share the machine's cores. Its parent is the agent; protocol/member.ts is their contract.
 *
 *     started ──open──▶ the bridge to the monitor is made ──▶ ready ──▶ requests, rounds
 *
 * When the parent goes, or falls silent in a round, the proxy ends the round for its member by
 * itself (the VM runs again), and leaves.
 */
import { mkdirSync } from 'node:fs';
import { pino } from 'pino';
import { MonitorBridge } from '../../qmp/libvirt/index.ts';
import { toFailure, UmbraError } from '../failure/failure.ts';
import { parentChannel } from '../host/child.ts';
import type { Handlers } from '../protocol/channel.ts';
import {
  AGENT_CALLS,
  type MemberLocation,
  type MemberRequest,
  PROXY_CALLS,
  type PrepareCommand,
  type RoundCommand,
  warmResumeSchema,
} from '../protocol/member.ts';
import { Capture } from './capture/capture.ts';
import { joinHugePages, type SplitMemory } from './capture/huge-pages.ts';
import { monitorSockets } from './domain-monitors.ts';
import { Requests } from './requests.ts';

class ProxyProcess {
  readonly #location: MemberLocation;
  readonly #requests: Requests;
  readonly #log;
  #capture: Capture | undefined;
  #silence: NodeJS.Timeout | undefined;
  #silenceMs = 0;
  #underWay = 0;
  #leaving = false;
  #joining = new AbortController();

  constructor(location: MemberLocation) {
    this.#location = location;
    this.#requests = new Requests(location);
    this.#log = log.child({ member: location.member });
  }

  /** Ends the round it is in, if any (the VM runs again), then the process. */
  leave(why: string): void {
    this.#leaving = true;
    this.#requests.close();
    if (this.#capture !== undefined) {
      this.#log.warn({ why }, 'leaving in a round');
      this.#capture.handle({ type: 'orphaned' });
    }
    this.#leaveWhenDone();
  }

  command(command: RoundCommand): void {
    if (this.#capture !== undefined) this.#watchSilence();
    if (command.type === 'alive') {
      channel.tell('alive', undefined);
      return;
    }
    if (command.type === 'prepare') this.#prepare(command);
    else if (this.#capture?.round === command.round) direct(this.#capture, command.type);
    else if (command.type === 'abort') this.#reportIdle(command.round);
  }

  #prepare(command: PrepareCommand): void {
    this.#requests.close();
    this.#joining.abort();
    this.#silenceMs = command.silenceMs;
    this.#capture = new Capture(
      this.#location,
      command,
      (notice) => channel.tell('notice', notice),
      (how) => this.#over(how),
      this.#log,
    );
    this.#watchSilence();
    this.#capture.handle({ type: 'prepare' });
  }

  #watchSilence(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#log.warn({ silenceMs: this.#silenceMs }, 'the coordinator is silent');
      this.#capture?.handle({ type: 'orphaned' });
    }, this.#silenceMs);
  }

  #over(how: 'repaired' | 'unrepaired'): void {
    clearTimeout(this.#silence);
    const split = this.#capture?.split;
    this.#capture = undefined;
    // The agent sees this process end, and lets another proxy try: the journal is still there.
    if (how === 'unrepaired') process.exit(1);
    this.#leaveWhenDone();
    if (split !== undefined) void this.#join(split);
  }

  /** Joins the huge pages that a capture has split, until the next round. It only saves time. */
  async #join(split: SplitMemory): Promise<void> {
    this.#joining = new AbortController();
    const startedAt = performance.now();
    try {
      const joined = await joinHugePages(split, this.#joining.signal);
      this.#log.info({ ...joined, ms: performance.now() - startedAt }, 'huge pages joined');
    } catch (error) {
      const failure = toFailure(error, { member: this.#location.member });
      this.#log.warn({ failure }, 'huge pages stay split: the next cut takes longer');
    }
  }

  #leaveWhenDone(): void {
    if (this.#leaving && this.#capture === undefined && this.#underWay === 0) process.exit(0);
  }

  /**
   * Reports a round that this process does not know as aborted: it was started after an earlier
   * end.
   */
  #reportIdle(round: string): void {
    channel.tell('notice', { type: 'report', round, report: 'aborted', facts: {} });
  }

  /** Answers a request. */
  async answer(request: MemberRequest): Promise<unknown> {
    this.#underWay++;
    try {
      return await this.#requests.answer(request);
    } catch (error) {
      const { member } = this.#location;
      throw UmbraError.received(toFailure(error, { member, where: request.type }), error);
    } finally {
      this.#underWay--;
      setImmediate(() => this.#leaveWhenDone()); // when the answer has been sent
    }
  }
}

function direct(capture: Capture, type: Exclude<RoundCommand['type'], 'prepare' | 'alive'>): void {
  if (type === 'flow' || type === 'hold') capture.slot(type === 'flow');
  else if (type === 'close-in') capture.closeIn();
  else capture.handle({ type });
}

const log = pino({ level: process.env.UMBRA_LOG ?? 'info' });
let proxy: ProxyProcess | undefined;

function answer(request: MemberRequest): Promise<unknown> {
  if (proxy !== undefined) return proxy.answer(request);
  const message = `${request.type} was asked of a proxy that is not open`;
  return Promise.reject(new UmbraError({ code: 'E_PROTOCOL', message }));
}

const channel = parentChannel({
  remote: AGENT_CALLS,
  local: PROXY_CALLS,
  handlers: {
    open: async (location) => {
      try {
        await openBridge(location);
      } catch (error) {
        const { member } = location;
        throw UmbraError.received(toFailure(error, { member, where: 'open monitor' }), error);
      }
      warmResumeSchema();
      proxy = new ProxyProcess(location);
      return undefined;
    },
    probe: answer,
    examine: answer,
    load: answer,
    'load-domain': answer,
    resume: answer,
    'catch-up-clock': answer,
    'merge-layers': answer,
    untrack: answer,
    repair: answer,
    command: (command) => proxy?.command(command),
  } as Handlers<typeof PROXY_CALLS>,
  onMisfit: (failure) => {
    log.error({ failure }, 'the agent is not understood');
    leave('the agent is not understood');
  },
});

/** Makes the QMP socket of a domain's VM; other VMs have made theirs. */
async function openBridge({ libvirt, qmp, directory }: MemberLocation): Promise<void> {
  if (libvirt === undefined) return;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const sockets = () => monitorSockets(directory);
  const bridge = await MonitorBridge.open({ ...libvirt, path: qmp, sockets });
  process.once('exit', () => bridge.close());
}

process.on('disconnect', () => leave('the coordinator is gone'));
// A service manager ends all processes at once: a stopped VM must not be left stopped.
for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => leave(signal));
// The terminal's Ctrl-C reaches the whole process group; the parent decides what to do about it.
process.on('SIGINT', () => {});

function leave(why: string): void {
  if (proxy === undefined) process.exit(0);
  proxy.leave(why);
}
