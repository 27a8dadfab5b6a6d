/**
 * Enacts one round: sends round.ts's commands through the agent, feeds it what comes back, keeps
 * the clock of the live phase, and publishes the epoch.
 */
import type { Logger } from 'pino';
import { type Calibration, type EndCondition, LivePhase } from '../../../policies/index.ts';
import { type EpochManifest, makeEpochManifest } from '../../../shadow/index.ts';
import { type Failure, toFailure } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';
import type { Agent, AgentNotice } from '../../protocol/agent.ts';
import type { ClusterConfig } from '../../protocol/cluster.ts';
import type { MemberSample, RoundFacts } from '../../protocol/member.ts';
import type { RoundProgress } from '../../protocol/progress.ts';
import type { MemberProven, RoundReport } from '../../protocol/report.ts';
import {
  begin,
  isAborting,
  LIVE,
  ROUND_STATE_NAMES,
  type Round,
  type RoundAction,
  type RoundEvent,
  type RoundStep,
  step,
} from './round.ts';
import { reportRound } from './round-report.ts';
import { Standstill } from './standstill.ts';

/** Period of looks at the live phase: a look walks over all members, a sample does not. */
const LOOK_MS = 50;
/** Signs of life within the silence a proxy tolerates, and is allowed. */
const SIGNS_PER_SILENCE = 8;
/**
 * Share of the stop deadline after which, and a sign or two, a frozen part is given up: another
 * process then has half of the deadline to start, and to repair the VM.
 */
const SILENCE_SHARE = 0.4;
/** A round in which nothing moves is given up after the live phase's maximum and this. */
const ROUND_GRACE_MS = 120_000;

export interface RoundRunnerOptions {
  /** Name of the round. */
  readonly round: string;
  /** The number its epoch gets. */
  readonly epoch: number;
  readonly config: ClusterConfig;
  readonly agent: Agent;
  readonly calibration: Calibration;
  readonly log: Logger;
  /** Loads the epoch into throw-away QEMUs before it is committed. */
  readonly prove?: boolean;
  /** Commits the epoch. @throws what the round fails with */
  publish(manifest: EpochManifest): Promise<void>;
  onProgress(progress: RoundProgress): void;
  /** Milliseconds beyond the live phase in which nothing may move; default 120,000. */
  readonly graceMs?: number;
}

export class RoundRunner {
  readonly id: string;
  readonly #options: RoundRunnerOptions;
  readonly #config: ClusterConfig;
  readonly #agent: Agent;
  readonly #log: Logger;
  readonly #startedAt = new Date();
  readonly #facts = new Map<string, RoundFacts>();
  readonly #samples = new Map<string, MemberSample>();
  /** Members that have said that they have no live phase. */
  readonly #waiting = new Set<string>();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #live: LivePhase;
  #standstill: Standstill | undefined;
  /** Downtime of each member, as predicted when the live phase ended. */
  readonly #predictions = new Map<string, number>();
  #predictedMs: number | undefined;
  #rawPredictedMs: number | undefined;
  #round: Round | undefined;
  /** The reason to end as soon as it has begun. */
  #abortedEarly: Failure | undefined;
  #liveSince = 0;
  #proof: readonly MemberProven[] | undefined;
  #finish: () => void = () => {};

  constructor(options: RoundRunnerOptions) {
    const { round, config, agent, calibration, log } = options;
    this.id = round;
    const { endWhen, multiplexing } = config.round;
    this.#live = new LivePhase(agent.members, { endWhen, multiplexing }, calibration);
    this.#options = options;
    this.#config = config;
    this.#agent = agent;
    this.#log = log.child({ round });
  }

  /**
   * Runs the round to its end; a failure of it is in the report.
   * @throws ShadowError E_STORE_IO when it cannot even begin: no member has heard of it
   */
  async run(): Promise<RoundReport> {
    const over = new Promise<void>((resolve) => {
      this.#finish = resolve;
    });
    const startedAt = performance.now();
    await this.#agent.beginRound(this.id);
    this.#keepTime();
    this.#apply(begin(this.#agent.members));
    if (this.#abortedEarly !== undefined) this.abort(this.#abortedEarly);
    await over;
    this.#agent.endRound(this.id);
    for (const timer of this.#timers) clearInterval(timer);
    this.#standstill?.end();
    const { endReason, failure } = this.#round ?? { endReason: undefined, failure: undefined };
    const summary = {
      round: this.id,
      epoch: failure === undefined ? this.#options.epoch : undefined,
      startedAt: this.#startedAt.toISOString(),
      durationMs: performance.now() - startedAt,
      endReason,
      predictedDowntimeMs: this.#predictedMs,
      rawPredictedDowntimeMs: this.#rawPredictedMs,
      policy: policyName(this.#config.round),
      failure,
      proof: this.#proof,
    };
    return reportRound(summary, this.#facts, this.#predictions);
  }

  /** Takes a notice of the agent; those of other rounds are not ours. */
  onNotice(notice: AgentNotice): void {
    if (notice.round !== this.id) return;
    if (notice.type === 'sample') {
      this.#samples.set(notice.member, notice.sample);
      this.#standstill?.sampled(notice.member, notice.sample.bytes);
      this.#live.observe(notice.member, notice.sample);
      if (notice.sample.waits) this.#waits(notice.member);
      return;
    }
    this.#standstill?.moved();
    const { member, report, facts, failure } = notice;
    if (report === 'admitted') this.#live.expect(member, facts.reservedBytes ?? 0);
    this.#facts.set(member, { ...this.#facts.get(member), ...facts });
    this.#handle({ type: 'report', member, report, ...(failure && { failure }) });
  }

  /** Notes a member without a live phase. Once no member has one, nothing is waited for. */
  #waits(member: string): void {
    if (this.#waiting.size === this.#agent.members.length) return;
    this.#waiting.add(member);
    if (this.#waiting.size === this.#agent.members.length) this.#look();
  }

  /** Aborts the round. @returns false if its epoch is being published, or is committed */
  abort(failure: Failure): boolean {
    if (this.#round === undefined) {
      this.#abortedEarly ??= failure;
      return true;
    }
    this.#handle({ type: 'abort', failure });
    return isAborting(this.#round);
  }

  #keepTime(): void {
    const silenceMs = this.#config.round.stopDeadlineMs * SILENCE_SHARE;
    const { endWhen } = this.#config.round;
    const maxLiveMs = Math.max(...endWhen.map((one) => (one.kind === 'elapsed' ? one.ms : 0)));
    this.#timers.push(
      setInterval(() => this.#agent.alive(silenceMs), silenceMs / SIGNS_PER_SILENCE),
      setInterval(() => this.#look(), LOOK_MS),
    );
    const limitMs = maxLiveMs + (this.#options.graceMs ?? ROUND_GRACE_MS);
    this.#standstill = new Standstill(limitMs, () => {
      const message = `nothing has moved in the round for ${Math.round(limitMs / 1000)} s`;
      this.abort({ code: 'E_ROUND_TIMEOUT', message });
    });
  }

  #handle(event: RoundEvent): void {
    if (this.#round !== undefined) this.#apply(step(this.#round, event));
  }

  #apply({ round, actions }: RoundStep): void {
    const before = this.#round?.state;
    this.#round = round;
    if (round.state !== before) {
      this.#log.info({ state: ROUND_STATE_NAMES[round.state] }, 'round');
      this.#standstill?.moved();
      if (round.state === LIVE) this.#liveSince = performance.now();
      this.#progress();
      faultPoint(`round/${ROUND_STATE_NAMES[round.state]}`);
    }
    for (const action of actions) this.#enact(action);
    if (round.state === LIVE && before !== LIVE) this.#look(); // opens the first slots
  }

  #enact(action: RoundAction): void {
    switch (action.type) {
      case 'command':
        if (action.command === 'prepare') {
          const { stopDeadlineMs, capture, cut, disks, endWhen, inFlightBytes } =
            this.#config.round;
          const memoryBound = boundOf(endWhen);
          const options = {
            capture,
            cut,
            disks,
            memoryBound,
            inFlightBytes,
            stopDeadlineMs,
            silenceMs: stopDeadlineMs * SILENCE_SHARE,
          };
          this.#agent.prepare(this.id, action.member, options);
        } else {
          this.#agent.command(this.id, action.member, action.command);
        }
        break;
      case 'publish':
        void this.#publish();
        break;
      case 'done':
        this.#finish();
        break;
    }
  }

  /** Opens and closes slots, and ends the live phase when its time has come. */
  #look(): void {
    if (this.#round?.state !== LIVE) return;
    this.#progress();
    const elapsedMs = performance.now() - this.#liveSince;
    const { flow, hold, closeIn, predictedMs, rawPredictedMs, end } = this.#live.tick(elapsedMs);
    this.#log.trace({ elapsedMs, predictedMs, flow, hold, closeIn, end }, 'look');
    for (const member of hold) this.#agent.command(this.id, member, 'hold');
    for (const member of flow) this.#agent.command(this.id, member, 'flow');
    for (const member of closeIn) this.#agent.command(this.id, member, 'close-in');
    if (!end.end) return;
    this.#predictedMs = predictedMs;
    this.#rawPredictedMs = rawPredictedMs;
    for (const [member, { downtimeMs }] of this.#live.members) {
      if (downtimeMs !== undefined) this.#predictions.set(member, downtimeMs);
    }
    this.#handle({ type: 'end', reason: end.reason });
  }

  async #publish(): Promise<void> {
    const members = [...this.#facts].map(([name, { shadow = '', stoppedAtUs, disks }]) => {
      const frozen = disks?.map(({ device, layers }) => ({ device, layers }));
      return { name, shadow, stoppedAtUs, disks: frozen };
    });
    const manifest = makeEpochManifest({
      cluster: this.#config.cluster,
      epoch: this.#options.epoch,
      round: this.id,
      createdAt: new Date().toISOString(),
      members,
    });
    try {
      if (this.#options.prove) this.#proof = await this.#agent.prove(manifest);
      await this.#options.publish(manifest);
    } catch (error) {
      this.#handle({ type: 'publish-failed', failure: toFailure(error, { where: 'publish' }) });
      return;
    }
    this.#handle({ type: 'published' });
  }

  #progress(): void {
    const round = this.#round;
    if (round === undefined) return;
    this.#options.onProgress({
      kind: 'progress',
      round: this.id,
      state: ROUND_STATE_NAMES[round.state] ?? '',
      members: [...round.members].map(([member, phase]) => ({
        member,
        phase,
        sample: this.#samples.get(member),
      })),
    });
  }
}

/** Returns the name of a round's kind: rounds of one kind cost alike. */
export function policyName(round: ClusterConfig['round']): string {
  const conditions = round.endWhen.map((one) => {
    return one.kind === 'predicted-downtime' ? `${one.kind} ${one.ms}ms` : one.kind;
  });
  return [round.capture.join(' or '), round.multiplexing.kind, ...conditions].join(', ');
}

function boundOf(endWhen: readonly EndCondition[]): number {
  const factors = endWhen.map((one) => {
    return one.kind === 'memory-bound' ? one.factor : Number.MAX_SAFE_INTEGER;
  });
  return Math.min(...factors, Number.MAX_SAFE_INTEGER);
}
