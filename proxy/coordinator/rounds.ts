/**
 * The rounds of a cluster: taken, queued while there is no room, aborted, and tidied up after.
 *
 *     checkpoint ──▶ ASKED ──admitted──▶ RUNNING ──▶ report ──▶ tidied up
 *                    │   ▲                  └─ abort: until its epoch is being published
 *            no room │   │ room
 *                    ▼   │
 *                   QUEUED             abort in ASKED and QUEUED: E_ROUND_ABORTED
 *
 * `#requested` holds every round from its request to its end: it alone tells whether one is under
 * way. (`Exclusive` keeps rounds, restores and removals of epochs from running at the same time.)
 */
import type { Logger } from 'pino';
import { type Calibration, calibrate, NO_CALIBRATION } from '../../policies/index.ts';
import { type Failure, UmbraError } from '../failure/failure.ts';
import type { Agent, AgentNotice } from '../protocol/agent.ts';
import type { ClusterConfig } from '../protocol/cluster.ts';
import type { CheckpointRequest } from '../protocol/operator.ts';
import type { QueuedProgress, RoundProgress } from '../protocol/progress.ts';
import type { RoundReport } from '../protocol/report.ts';
import type { Publishing } from './publishing.ts';
import type { Exclusive } from './rounds/exclusive.ts';
import type { RoundArchive } from './rounds/round-archive.ts';
import { newRoundName } from './rounds/round-name.ts';
import { outcomeOf } from './rounds/round-outcome.ts';
import { RoundQueue } from './rounds/round-queue.ts';
import { policyName, RoundRunner } from './rounds/round-runner.ts';
import { type TidyingParts, tidy, tidyAfter } from './tidying.ts';

export interface RoundsOptions {
  readonly config: ClusterConfig;
  readonly exclusive: Exclusive;
  readonly publishing: Publishing;
  readonly tidying: TidyingParts;
  readonly log: Logger;
}

/** A round from its request to its end. */
interface Requested {
  /** Ends it while it does not run. */
  readonly ending: AbortController;
  /** The operator's wish that its epoch be proven, or not; undefined: as configured. */
  readonly prove: boolean | undefined;
  /** The reason it waits for memory, if it does. */
  queuedFor: Failure | undefined;
  /** Defined while it runs. */
  runner: RoundRunner | undefined;
}

export class Rounds {
  readonly #config: ClusterConfig;
  readonly #exclusive: Exclusive;
  readonly #publishing: Publishing;
  readonly #tidying: TidyingParts;
  readonly #agent: Agent;
  readonly #archive: RoundArchive;
  readonly #queue: RoundQueue;
  readonly #log: Logger;
  readonly #requested = new Set<Requested>();
  #calibration: Calibration = NO_CALIBRATION;
  #last: RoundReport | undefined;
  /** An epoch of this daemon's life has been proven. */
  #hasProven = false;
  #onRound: (report: RoundReport) => void = () => {};

  constructor({ config, exclusive, publishing, tidying, log }: RoundsOptions) {
    this.#config = config;
    this.#exclusive = exclusive;
    this.#publishing = publishing;
    this.#tidying = tidying;
    this.#agent = tidying.agent;
    this.#archive = tidying.archive;
    this.#queue = new RoundQueue(config.store, exclusive, () => this.#admit());
    this.#log = log;
  }

  /** Learns from stored reports: those of earlier daemons, or before the settings changed. */
  async recalibrate(): Promise<void> {
    const past = await this.#archive.last(Number.POSITIVE_INFINITY);
    this.#last ??= past.at(-1);
    this.#calibration = NO_CALIBRATION;
    // Only from rounds of the same kind: others cost differently.
    const policy = policyName(this.#config.round);
    for (const report of past) if (report.policy === policy) this.#calibrate(report);
  }

  /** Calls `listener` with the report of each round, before it is tidied up. */
  onRound(listener: (report: RoundReport) => void): void {
    this.#onRound = listener;
  }

  /** Takes a notice of the agent, for the round that runs. */
  onNotice(notice: AgentNotice): void {
    for (const { runner } of this.#requested) runner?.onNotice(notice);
  }

  get last(): RoundReport | undefined {
    return this.#last;
  }

  /** Returns why the first queued round waits; undefined if none is queued. */
  get queuedFor(): Failure | undefined {
    return [...this.#requested].find(({ queuedFor }) => queuedFor !== undefined)?.queuedFor;
  }

  /** Returns the median of |predicted − real| ÷ real of the last rounds' downtime. */
  get predictionErrorMedian(): number | undefined {
    return this.#calibration.errorMedian;
  }

  /** Returns the names of rounds that have a report, oldest first. */
  names(): Promise<string[]> {
    return this.#archive.names();
  }

  /** @param round its name, or `last` @throws UmbraError E_ROUND_UNKNOWN */
  async report(round: string): Promise<RoundReport> {
    const name = round === 'last' ? (await this.#archive.names()).at(-1) : round;
    const report = name === undefined ? undefined : await this.#archive.read(name);
    if (report !== undefined) return report;
    const message = name === undefined ? 'no round was run yet' : `no report of round ${name}`;
    throw new UmbraError({ code: 'E_ROUND_UNKNOWN', message });
  }

  /**
   * Takes a checkpoint; while there is no room for it, it is queued as configured.
   * @throws UmbraError what made admission refuse, before anything was touched
   * @returns the report, committed or aborted
   */
  async take(
    { prove }: CheckpointRequest,
    onProgress: (progress: RoundProgress | QueuedProgress) => void,
  ): Promise<RoundReport> {
    const ending = new AbortController();
    const requested: Requested = { ending, prove, queuedFor: undefined, runner: undefined };
    this.#requested.add(requested);
    try {
      return await this.#queue.run({
        attempt: () => this.#attempt(requested, onProgress),
        onQueued: (why) => {
          requested.queuedFor = why;
          onProgress({ kind: 'queued', why });
        },
        signal: ending.signal,
      });
    } finally {
      this.#requested.delete(requested);
    }
  }

  /**
   * Ends every round that is under way, or asked for.
   * @returns false if there is none, or it is being published and will be committed
   */
  abort(failure: Failure): boolean {
    let ends = false;
    for (const { runner, ending } of this.#requested) {
      ends = runner === undefined || runner.abort(failure) || ends;
      if (runner === undefined) ending.abort(UmbraError.received(failure));
    }
    return ends;
  }

  #attempt(
    requested: Requested,
    onProgress: (progress: RoundProgress) => void,
  ): Promise<RoundReport> {
    const requireWanted = () => {
      this.#exclusive.requireGoingOn();
      requested.ending.signal.throwIfAborted();
    };
    const work = async () => {
      const epoch = await this.#publishing.nextEpoch();
      requireWanted();
      const report = await this.#run(epoch, requested, onProgress);
      this.#last = report;
      this.#calibrate(report);
      this.#onRound(report);
      await tidyAfter(report, this.#tidying);
      return report;
    };
    // A round that was aborted while it was admitted does not wait for memory, either.
    const admit = () => this.#admit().finally(requireWanted);
    return this.#exclusive.run('checkpoint', work, admit);
  }

  async #run(
    epoch: number,
    requested: Requested,
    onProgress: (progress: RoundProgress) => void,
  ): Promise<RoundReport> {
    const runner = new RoundRunner({
      round: newRoundName(epoch),
      epoch,
      config: this.#config,
      agent: this.#agent,
      calibration: this.#calibration,
      log: this.#log,
      prove: requested.prove ?? this.#isToProve(),
      publish: (manifest) => this.#publishing.publish(manifest),
      onProgress,
    });
    requested.queuedFor = undefined;
    requested.runner = runner;
    const report = await runner.run().finally(() => {
      requested.runner = undefined;
    });
    this.#requested.delete(requested); // it is over; what follows is tidying
    this.#hasProven ||= report.proof !== undefined && report.failure === undefined;
    return report;
  }

  #isToProve(): boolean {
    const { prove } = this.#config.round;
    return prove === 'always' || (prove === 'first' && !this.#hasProven);
  }

  /** Admits a round, after epochs that have grown too old since the last one have made room. */
  async #admit(): Promise<void> {
    this.#publishing.requirePossible();
    await tidy('retire', this.#log, async () => {
      const retired = await this.#tidying.epochs.retireOld(Date.now());
      if (retired > 0) await this.#agent.collect('recycle');
    });
    await this.#agent.admit();
  }

  #calibrate(report: RoundReport): void {
    const outcome = outcomeOf(report);
    if (outcome !== undefined) this.#calibration = calibrate(this.#calibration, outcome);
  }
}
