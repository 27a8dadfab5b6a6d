/**
 * One cluster, as its API sees it: a façade. What it brings together:
 *
 *     rounds       checkpoints: taken, queued, aborted, tidied up after    rounds.ts
 *     restores     restores and clones                                     restores.ts
 *     holds        epochs that are held while another cluster clones them   holds.ts
 *     epochs       listed, pinned, verified, removed                       epochs/
 *     schedule     checkpoints that no operator asks for                   rounds/schedule.ts
 *     persister    epochs on disk                                          durable/
 *
 * Rounds, restores, clones and removals exclude one another (rounds/exclusive.ts).
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { Catalogue } from '../../shadow/index.ts';
import { clusterFolder } from '../host/folders.ts';
import type { Agent } from '../protocol/agent.ts';
import type { ClusterConfig } from '../protocol/cluster.ts';
import type { EpochDetail } from '../protocol/epoch.ts';
import type { CheckpointRequest, RestoreOptions } from '../protocol/operator.ts';
import type { QueuedProgress, RestoreProgress, RoundProgress } from '../protocol/progress.ts';
import type { RestoreReport, RoundReport } from '../protocol/report.ts';
import type { ClusterStatus } from '../protocol/status.ts';
import { Persister } from './durable/persister.ts';
import { Epochs } from './epochs/epochs.ts';
import { FoldJob } from './epochs/fold-job.ts';
import { type VerifyingParts, verifyEpoch } from './epochs/verify.ts';
import { type Hold, Holds } from './holds.ts';
import { Publishing } from './publishing.ts';
import { EpochChoice } from './restores/epoch-choice.ts';
import type { RelayedRequest } from './restores/relayed.ts';
import { type CloneRequest, Restores } from './restores.ts';
import { Exclusive } from './rounds/exclusive.ts';
import { RoundArchive } from './rounds/round-archive.ts';
import { Schedule } from './rounds/schedule.ts';
import { Rounds } from './rounds.ts';
import { tidy } from './tidying.ts';

export class Coordinator {
  readonly #config: ClusterConfig;
  readonly #exclusive = new Exclusive();
  readonly #parts: VerifyingParts;
  readonly #foldJob: FoldJob;
  readonly #rounds: Rounds;
  readonly #restores: Restores;
  readonly #holds: Holds;
  readonly #log: Logger;
  #schedule: Schedule | undefined;

  constructor(config: ClusterConfig, agent: Agent, catalogue: Catalogue, log: Logger) {
    this.#config = config;
    this.#log = log;
    const exclusive = this.#exclusive;
    const { persist } = config;
    const persister = persist && new Persister(persist, agent, catalogue, log);
    const epochs = new Epochs(config, catalogue, agent, persister, log);
    const choice = new EpochChoice(catalogue, epochs, persister);
    const foldJob = new FoldJob(config.store, agent, catalogue, epochs, exclusive, log);
    const archive = new RoundArchive(clusterFolder(config.directory, 'rounds'));
    const publishing = new Publishing(catalogue, persister, persist, log);
    const tidying = { agent, epochs, archive, foldJob, persister, log };
    this.#parts = { agent, catalogue, epochs, persister };
    this.#foldJob = foldJob;
    this.#rounds = new Rounds({ config, exclusive, publishing, tidying, log });
    this.#restores = new Restores({ config, agent, epochs, choice, persister, exclusive, log });
    this.#holds = new Holds(epochs, choice, exclusive);
    this.#schedule = this.#newSchedule();
    this.#rounds.onRound((report) => this.#schedule?.onRound(report));
    agent.onNotice((notice) => this.#rounds.onNotice(notice));
  }

  /** Takes up what an earlier daemon has left, and begins to keep the schedule. */
  async start(): Promise<void> {
    await this.#rounds.recalibrate();
    await this.#parts.persister?.start();
    this.#schedule?.start(this.#rounds.last);
  }

  async status(): Promise<ClusterStatus> {
    const { agent, epochs, persister } = this.#parts;
    return {
      cluster: this.#config.cluster,
      busy: this.#exclusive.busy,
      persist: persister?.status,
      queued: this.#rounds.queuedFor,
      members: await agent.status(),
      epochs: await epochs.list(),
      lastRound: this.#rounds.last,
      lastRestore: this.#restores.last,
      schedule: this.#schedule?.status,
      predictionErrorMedian: this.#rounds.predictionErrorMedian,
    };
  }

  /** Lists epochs with their age and the memory they occupy. */
  epochs(): Promise<EpochDetail[]> {
    return this.#parts.epochs.details(Date.now());
  }

  /** Pins or unpins an epoch, also while a round runs. @throws UmbraError E_EPOCH_UNKNOWN */
  pin(epoch: number, pinned: boolean): Promise<void> {
    return this.#parts.epochs.pin(epoch, pinned);
  }

  /** Returns the names of rounds that have a report, oldest first. */
  rounds(): Promise<string[]> {
    return this.#rounds.names();
  }

  /** @param round its name, or `last` @throws UmbraError E_ROUND_UNKNOWN */
  report(round: string): Promise<RoundReport> {
    return this.#rounds.report(round);
  }

  /**
   * Takes a checkpoint; while there is no room for it, it is queued as configured.
   * @throws UmbraError what made admission refuse, before anything was touched
   * @returns the report, committed or aborted
   */
  checkpoint(
    request: CheckpointRequest,
    onProgress: (progress: RoundProgress | QueuedProgress) => void,
  ): Promise<RoundReport> {
    return this.#rounds.take(request, onProgress);
  }

  /**
   * Ends a round that is under way, or asked for.
   * @returns false if there is none, or it is being published and will be committed
   */
  abort(reason: string): boolean {
    return this.#rounds.abort({ code: 'E_ROUND_ABORTED', message: reason });
  }

  /** Brings the cluster back as it was in an epoch (restores.ts). */
  restore(
    epoch: number | undefined,
    options: RestoreOptions,
    onProgress: (progress: RestoreProgress) => void,
  ): Promise<RestoreReport> {
    return this.#restores.restore(epoch, options, onProgress);
  }

  /** Brings a member back from an epoch that a relay kept (restores.ts). */
  restoreRelayed(
    request: RelayedRequest,
    options: RestoreOptions,
    onProgress: (progress: RestoreProgress) => void,
  ): Promise<RestoreReport> {
    return this.#restores.restoreRelayed(request, options, onProgress);
  }

  /** Brings this cluster up from an epoch of another (restores.ts). */
  clone(
    request: CloneRequest,
    onProgress: (progress: RestoreProgress) => void,
  ): Promise<RestoreReport> {
    return this.#restores.clone(request, onProgress);
  }

  /** Keeps an epoch's files where they are until it is released (holds.ts). */
  hold(epoch: number | undefined, onEnd: () => void): Promise<Hold> {
    return this.#holds.hold(epoch, onEnd);
  }

  /** @throws UmbraError E_HOLD_UNKNOWN if the hold has ended */
  requireHold(id: string): void {
    this.#holds.require(id);
  }

  /** Reads every byte of an epoch again (epochs/verify.ts). */
  verify(epoch: number): Promise<('memory' | 'disk')[]> {
    return verifyEpoch(epoch, this.#parts);
  }

  /** @throws UmbraError E_EPOCH_UNKNOWN, E_EPOCH_PINNED, E_EPOCH_HELD, E_ROUND_BUSY */
  removeEpoch(epoch: number): Promise<void> {
    return this.#exclusive.run('remove an epoch', () => this.#parts.epochs.remove(epoch));
  }

  /**
   * Ends the tracking of a member's VM, between rounds.
   * @returns false if it was not tracked
   * @throws UmbraError E_MEMBER_UNKNOWN, E_TRACKING_REFUSED
   */
  untrack(member: string): Promise<boolean> {
    return this.#exclusive.brief('untrack', () => this.#parts.agent.untrack(member));
  }

  /**
   * Changes settings when nothing is under way: a round keeps those it has begun with.
   * @param change changes the configuration that all parts share
   */
  reconfigure<T>(change: () => T): Promise<T> {
    return this.#exclusive.brief('reload', async () => {
      const before = this.#config.schedule;
      const changed = change();
      this.#parts.persister?.reconfigured();
      await tidy('recalibrate', this.#log, () => this.#rounds.recalibrate());
      if (!isDeepStrictEqual(before, this.#config.schedule)) this.#startSchedule();
      return changed;
    });
  }

  #startSchedule(): void {
    this.#schedule?.stop();
    this.#schedule = this.#newSchedule();
    this.#schedule?.start(this.#rounds.last);
  }

  #newSchedule(): Schedule | undefined {
    const take = () => this.checkpoint({}, () => {});
    const { schedule } = this.#config;
    return schedule && new Schedule(schedule, take, this.#log);
  }

  /** Ends what is under way, accepts nothing more, and resolves when nothing is under way. */
  async end(): Promise<void> {
    this.#exclusive.end();
    this.#holds.endAll();
    this.#schedule?.stop();
    this.abort('the daemon is ending');
    const folded = this.#foldJob.end();
    const stopped = this.#parts.persister?.stop();
    await this.#exclusive.settled();
    await stopped;
    await folded;
  }
}
