/**
 * A whole round in virtual time, the same for the same seed.
 *
 *     coordinator: round.ts, LivePhase ──network──▶ member: session.ts ──▶ modelled VM ──▶ host
 *                         ▲                             │
 *                         └────────── network ──────────┘
 *
 * What the design promises is checked after each: a simulation that breaks a promise throws.
 */
import {
  type Calibration,
  type EndCondition,
  LivePhase,
  type LivePolicy,
  type Multiplexing,
  NO_CALIBRATION,
} from '../../policies/index.ts';
import { ModelledCoordinator } from './coordinator.ts';
import { Events } from './events.ts';
import { type Bandwidth, Host } from './host.ts';
import { type MemberOptions, ModelledMember } from './member.ts';
import { LOCAL_NETWORK, Network, type NetworkSpec } from './network.ts';
import { checkPromises } from './promises.ts';
import { Random } from './random.ts';
import type { Call, LiveDecider } from './replay.ts';
import { type RoundResult, resultOf } from './result.ts';
import type { VmSpec } from './vm.ts';

export interface ClusterSpec {
  readonly members: readonly (VmSpec & { readonly waits?: boolean })[];
  readonly membersPerHost: number;
  readonly bandwidth: Bandwidth;
}

export interface SimulationOptions {
  readonly seed: number;
  readonly cluster: ClusterSpec;
  readonly endWhen: readonly EndCondition[];
  readonly multiplexing: Multiplexing;
  readonly calibration?: Calibration;
  readonly network?: NetworkSpec;
  readonly memoryBound?: number;
  readonly maxLiveMs?: number;
  readonly stopDeadlineMs?: number;
  /** This member's proxy dies then, milliseconds after the round began. */
  readonly loss?: { readonly member: number; readonly atMs: number };
  /** Is told of every call into the coordinator's own code. */
  readonly note?: (call: Call) => void;
  /** A live phase under trial. */
  readonly makeLive?: (
    members: readonly string[],
    policy: LivePolicy,
    calibration: Calibration,
  ) => LiveDecider;
}

const MEMORY_BOUND = 2;
const MAX_LIVE_MS = 60_000;
const STOP_DEADLINE_MS = 600_000;
/** No round takes longer than its live phase and this, milliseconds. */
const GRACE_MS = 2_000_000;

/** @throws Error if the round breaks a promise of the design, or never ends */
export function simulate(options: SimulationOptions): RoundResult {
  const { cluster, seed, memoryBound = MEMORY_BOUND, maxLiveMs = MAX_LIVE_MS } = options;
  const random = new Random(seed);
  const events = new Events();
  const network = new Network(events, options.network ?? LOCAL_NETWORK, random.fork());
  const names = namesOf(cluster);
  const policy = policyOf(options);
  const makeLive = options.makeLive ?? realLive;
  const live = makeLive(names, policy, options.calibration ?? NO_CALIBRATION);
  const links = new Map(names.map((name) => [name, network.link()]));
  const members = new Map<string, ModelledMember>();
  const send = (name: string, enact: (member: ModelledMember) => void): void => {
    const [member, link] = [members.get(name), links.get(name)];
    if (member !== undefined && link !== undefined) network.command(link, () => enact(member));
  };
  const commands = {
    command: (name: string, command: Parameters<ModelledMember['command']>[0]) =>
      send(name, (member) => member.command(command)),
    slot: (name: string, open: boolean) => send(name, (member) => member.slot(open)),
    closeIn: (name: string) => send(name, (member) => member.closeIn()),
  };
  const coordinator = new ModelledCoordinator(events, live, commands, options.note ?? toNobody);
  let host = new Host(events, cluster.bandwidth);
  for (const [index, spec] of cluster.members.entries()) {
    if (index % cluster.membersPerHost === 0) host = new Host(events, cluster.bandwidth);
    const name = names[index] ?? '';
    const back = network.link();
    const listener = {
      report: (report: Parameters<ModelledCoordinator['onReport']>[1]) =>
        back.send(events.nowMs, () => coordinator.onReport(name, report)),
      sample: (sample: Parameters<ModelledCoordinator['onSample']>[1]) =>
        back.send(events.nowMs, () => coordinator.onSample(name, sample)),
    };
    const settings = termsOf(options, memoryBound, spec.waits === true);
    members.set(name, new ModelledMember(spec, settings, events, host, random.fork(), listener));
  }
  const { loss } = options;
  if (loss !== undefined) events.at(loss.atMs, () => members.get(`n${loss.member}`)?.lose());

  coordinator.begin(names);
  const all = [...members.values()];
  const limitMs = maxLiveMs + GRACE_MS;
  if (!events.run(() => coordinator.isOver, limitMs)) {
    throw new Error(`seed ${seed}: the round did not end within ${events.nowMs} virtual ms`);
  }
  const latencyMs = events.nowMs;
  events.run(() => all.every((member) => member.isIdle), limitMs);
  const result = resultOf(coordinator, members, latencyMs);
  checkPromises(seed, result, all, memoryBound);
  return result;
}

/** Returns the names of a cluster's members. */
export function namesOf({ members }: ClusterSpec): string[] {
  return members.map((_, index) => `n${index}`);
}

/** Returns the policy: the live phase also ends by the bound or by its maximum. */
export function policyOf(options: SimulationOptions): LivePolicy {
  const { endWhen, multiplexing, memoryBound = MEMORY_BOUND, maxLiveMs = MAX_LIVE_MS } = options;
  const always: EndCondition[] = [
    { kind: 'memory-bound', factor: memoryBound },
    { kind: 'elapsed', ms: maxLiveMs },
  ];
  return { endWhen: [...endWhen, ...always], multiplexing };
}

function termsOf(options: SimulationOptions, memoryBound: number, waits: boolean): MemberOptions {
  const { stopDeadlineMs = STOP_DEADLINE_MS } = options;
  return { waits, memoryBound, stopDeadlineMs };
}

function realLive(
  members: readonly string[],
  policy: LivePolicy,
  calibration: Calibration,
): LiveDecider {
  return new LivePhase(members, policy, calibration);
}

function toNobody(): void {}
