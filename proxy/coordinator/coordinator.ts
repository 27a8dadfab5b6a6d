/** One cluster: its rounds, its epochs, its restores; one of them at a time. */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { type Calibration, calibrate, NO_CALIBRATION } from '../../policies/index.ts';
import { Catalogue, type EpochManifest } from '../../shadow/index.ts';
import { holdEpoch } from '../client/epoch-hold.ts';
import { type Failure, toFailure, UmbraError } from '../failure/failure.ts';
import { faultPoint } from '../failure/fault-point.ts';
import { clusterFolder } from '../host/folders.ts';
import type { Agent, CloneOrigin } from '../protocol/agent.ts';
import type { ClusterConfig } from '../protocol/cluster.ts';
import type { EpochDetail } from '../protocol/epoch.ts';
import type { RestoreOptions } from '../protocol/operator.ts';
import type { QueuedProgress, RestoreProgress, RoundProgress } from '../protocol/progress.ts';
import type { RestoreReport, RoundReport } from '../protocol/report.ts';
import type { ClusterStatus } from '../protocol/status.ts';
import { Persister } from './durable/persister.ts';
import { Epochs } from './epochs/epochs.ts';
import { FoldJob } from './epochs/fold-job.ts';
import { type ChosenEpoch, EpochChoice } from './restores/epoch-choice.ts';
import { restoreEpoch } from './restores/restore.ts';
import { Exclusive } from './rounds/exclusive.ts';
import { RoundArchive } from './rounds/round-archive.ts';
import { outcomeOf } from './rounds/round-outcome.ts';
import { RoundQueue } from './rounds/round-queue.ts';
import { policyName, RoundRunner } from './rounds/round-runner.ts';
import { Schedule } from './rounds/schedule.ts';

export interface Hold {
  readonly id: string;
  readonly epoch: number;
  release(): void;
}

export interface CloneRequest extends Omit<RestoreOptions, 'replace'> {
  readonly origin: CloneOrigin;
  /** Of the source; its newest if undefined. */
  readonly epoch: number | undefined;
}

export class Coordinator {
  readonly #config: ClusterConfig;
  readonly #agent: Agent;
  readonly #catalogue: Catalogue;
  readonly #log: Logger;
  readonly #exclusive = new Exclusive();
  #runner: RoundRunner | undefined;
  /** Ends each round that is asked for and has not begun: it is admitted, or waits for that. */
  readonly #beginning = new Set<AbortController>();
  #lastRound: RoundReport | undefined;
  #lastRestore: RestoreReport | undefined;
  readonly #archive: RoundArchive;
  readonly #epochs: Epochs;
  readonly #choice: EpochChoice;
  readonly #foldJob: FoldJob;
  readonly #queue: RoundQueue;
  /** What ends each hold there is. */
  readonly #holds = new Map<string, () => void>();
  readonly #schedule: Schedule | undefined;
  readonly #persister: Persister | undefined;
  #calibration: Calibration = NO_CALIBRATION;

  constructor(config: ClusterConfig, agent: Agent, catalogue: Catalogue, log: Logger) {
    this.#config = config;
    this.#agent = agent;
    this.#catalogue = catalogue;
    this.#log = log;
    agent.onNotice((notice) => this.#runner?.onNotice(notice));
    this.#archive = new RoundArchive(clusterFolder(config.directory, 'rounds'));
    this.#persister = config.persist && new Persister(config.persist, agent, catalogue, log);
    this.#epochs = new Epochs(config, catalogue, agent, this.#persister, log);
    this.#choice = new EpochChoice(catalogue, this.#epochs, this.#persister);
    const { foldAt, queueLimitMs } = config.store;
    this.#foldJob = new FoldJob(foldAt, agent, catalogue, this.#epochs, this.#exclusive, log);
    this.#queue = new RoundQueue(queueLimitMs, this.#exclusive, () => this.#admit());
    const take = () => this.checkpoint(() => {});
    this.#schedule = config.schedule && new Schedule(config.schedule, take, log);
  }

  /** Learns from the rounds of an earlier life, and begins to keep the schedule. */
  async start(): Promise<void> {
    const past = await this.#archive.last(Number.POSITIVE_INFINITY);
    this.#lastRound = past.at(-1);
    // Rounds of the same kind only: others cost differently.
    const policy = policyName(this.#config.round);
    for (const report of past) if (report.policy === policy) this.#learn(report);
    await this.#persister?.start();
    this.#schedule?.start(this.#lastRound);
  }

  #learn(report: RoundReport): void {
    const outcome = outcomeOf(report);
    if (outcome !== undefined) this.#calibration = calibrate(this.#calibration, outcome);
  }

  async status(): Promise<ClusterStatus> {
    return {
      cluster: this.#config.cluster,
      busy: this.#exclusive.busy,
      persist: this.#persister?.status,
      queued: this.#queue.why,
      members: await this.#agent.status(),
      epochs: await this.#epochs.list(),
      lastRound: this.#lastRound,
      lastRestore: this.#lastRestore,
      schedule: this.#schedule?.status,
      predictionErrorMedian: this.#calibration.errorMedian,
    };
  }

  /** With their age and the memory they take. */
  epochs(): Promise<EpochDetail[]> {
    return this.#epochs.details(Date.now());
  }

  /** Also in the middle of a round. @throws UmbraError E_EPOCH_UNKNOWN */
  pin(epoch: number, pinned: boolean): Promise<void> {
    return this.#epochs.pin(epoch, pinned);
  }

  /** Rounds there are reports of, oldest first. */
  rounds(): Promise<string[]> {
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
   * Takes a checkpoint; queued, as configured, while there is no room for it.
   * @throws UmbraError what made admission refuse, before anything was touched
   * @returns the report, committed or aborted
   */
  checkpoint(onProgress: (progress: RoundProgress | QueuedProgress) => void): Promise<RoundReport> {
    const onQueued = (why: Failure) => onProgress({ kind: 'queued', why });
    return this.#queue.run(() => this.#checkpoint(onProgress), onQueued);
  }

  async #checkpoint(onProgress: (progress: RoundProgress) => void): Promise<RoundReport> {
    const beginning = new AbortController();
    const requireWanted = () => {
      this.#exclusive.requireGoingOn();
      beginning.signal.throwIfAborted();
    };
    const work = async () => {
      const epoch = await this.#nextEpoch();
      requireWanted();
      this.#beginning.delete(beginning);
      const id = roundName(epoch);
      const runner = new RoundRunner(
        id,
        epoch,
        this.#config,
        this.#agent,
        (manifest) => this.#publish(manifest),
        this.#calibration,
        this.#log,
        onProgress,
      );
      this.#runner = runner;
      const report = await runner.run().finally(() => {
        this.#runner = undefined;
      });
      this.#lastRound = report;
      this.#learn(report);
      this.#schedule?.onRound(report);
      // The epoch stands by now, or does not: tidying up must not change what is reported.
      if (report.failure === undefined) {
        await this.#tidy('retire', () => this.#epochs.retireOld(Date.now()));
      }
      await this.#tidy('collect', () => this.#agent.collect('recycle'));
      if (report.failure === undefined) {
        await this.#tidy('holes', () => this.#agent.reclaimHoles());
      }
      await this.#tidy('disks', () => this.#tidyDisks());
      await this.#tidy('archive', () => this.#archive.add(report));
      if (report.failure === undefined) {
        void this.#tidy('fold', () => this.#foldJob.foldIfLarge(epoch, roundName(epoch)));
      }
      this.#persister?.wake();
      return report;
    };
    this.#beginning.add(beginning);
    try {
      // One that nobody wants any more does not wait for memory, either.
      return await this.#exclusive.run('checkpoint', work, () =>
        this.#admit().finally(requireWanted),
      );
    } finally {
      this.#beginning.delete(beginning);
    }
  }

  /** @throws UmbraError E_DURABLE_SILENT when only the disk knows which numbers were used */
  async #nextEpoch(): Promise<number> {
    const inMemory = await this.#catalogue.nextEpoch();
    if (inMemory === 1) this.#persister?.requireAnswer();
    return Math.max(inMemory, this.#persister?.nextEpoch ?? 1);
  }

  /** Configured so, on disk first: an epoch that is listed then survives the loss of all memory. */
  async #publish(manifest: EpochManifest): Promise<void> {
    if (this.#config.persist?.mode !== 'before-commit') return this.#catalogue.publish(manifest);
    await this.#persister?.beforeCommit(manifest);
    try {
      await this.#catalogue.publish(manifest);
    } catch (error) {
      await this.#tidy('retire from disk', async () => this.#persister?.remove(manifest.epoch));
      throw error;
    }
  }

  /** What has grown too old since the last round makes room first. */
  async #admit(): Promise<void> {
    if (this.#config.persist?.mode === 'before-commit') this.#persister?.requireAnswer();
    await this.#tidy('retire', async () => {
      if ((await this.#epochs.retireOld(Date.now())) > 0) await this.#agent.collect('recycle');
    });
    await this.#agent.admit();
  }

  async #tidyDisks(): Promise<void> {
    const epochs = await this.#epochs.manifests();
    if (epochs !== undefined) await this.#agent.tidyDisks(epochs);
  }

  /** One that fails is told in the log, and tried again after the next round; the others go on. */
  async #tidy(what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#log.error({ err: error, what }, 'could not tidy up after the round');
    }
  }

  restore(
    epoch: number | undefined,
    options: RestoreOptions,
    onProgress: (progress: RestoreProgress) => void,
  ): Promise<RestoreReport> {
    return this.#exclusive.run('restore', async () => {
      const askedAt = performance.now();
      const chosen = await this.#choose(epoch, options.from);
      const { manifest } = chosen;
      try {
        if (chosen.fetch) await this.#fetch(manifest, options, onProgress);
        const fetchMs = chosen.fetch ? performance.now() - askedAt : undefined;
        const done = await restoreEpoch({
          agent: this.#agent,
          epoch: manifest,
          options,
          askedAt,
          log: this.#log,
          onProgress,
        });
        this.#lastRestore = { ...done, fetchMs };
        await this.#tidy('disks', () => this.#tidyDisks());
        return this.#lastRestore;
      } catch (error) {
        throw await this.#choice.offerAnother(manifest.epoch, error);
      }
    });
  }

  /** @throws UmbraError what is wrong with it, and what there is instead */
  async #choose(epoch: number | undefined, from: RestoreOptions['from']): Promise<ChosenEpoch> {
    try {
      return await this.#choice.choose(epoch, from);
    } catch (error) {
      throw epoch === undefined ? error : await this.#choice.offerAnother(epoch, error);
    }
  }

  /**
   * Brings up this cluster from an epoch of another, which runs on. This one's VMs must not run.
   * @throws UmbraError why not; nothing that was started is left
   */
  clone(
    { origin, epoch, ...options }: CloneRequest,
    onProgress: (progress: RestoreProgress) => void,
  ): Promise<RestoreReport> {
    return this.#exclusive.run('clone', async () => {
      const askedAt = performance.now();
      const { source } = origin;
      const hold = await holdEpoch(source, epoch);
      try {
        const catalogue = new Catalogue(source.catalogueDirectory, source.cluster);
        const manifest = await catalogue.read(hold.epoch);
        const agent = this.#agent.cloneOf(origin);
        let standing: Promise<void> | undefined;
        const resume = async (member: string) => {
          standing ??= hold.require(); // or what was loaded may be another round's memory
          await standing;
          return agent.resume(member);
        };
        const done = await restoreEpoch({
          agent: { ...agent, resume },
          epoch: manifest,
          options: { ...options, replace: false },
          askedAt,
          log: this.#log,
          onProgress,
        });
        this.#lastRestore = done;
        return done;
      } finally {
        await hold.release();
      }
    });
  }

  /**
   * Keeps an epoch's files where they are, also while rounds go on, until it is released or we end.
   * @param epoch the newest if undefined
   * @param onEnd called when it is we who end it
   */
  async hold(epoch: number | undefined, onEnd: () => void): Promise<Hold> {
    this.#exclusive.requireGoingOn();
    const { held, release } = await this.#epochs.hold(() => this.#choice.inMemory(epoch));
    const id = randomBytes(16).toString('hex');
    const releaseIt = () => {
      this.#holds.delete(id);
      release();
    };
    this.#holds.set(id, () => {
      releaseIt();
      onEnd();
    });
    return { id, epoch: held.epoch, release: releaseIt };
  }

  /** Has it been held all the time? @throws UmbraError E_HOLD_UNKNOWN */
  requireHold(id: string): void {
    if (this.#holds.has(id)) return;
    throw new UmbraError({ code: 'E_HOLD_UNKNOWN', message: 'nothing is held by that name' });
  }

  /** Brings an epoch from disk: from then on it is in memory like any other. */
  async #fetch(
    manifest: EpochManifest,
    { from }: RestoreOptions,
    onProgress: (progress: RestoreProgress) => void,
  ): Promise<void> {
    const { epoch } = manifest;
    this.#persister?.requireAnswer();
    onProgress({ kind: 'restore-progress', step: 'fetch' });
    const trust = from === 'disk' ? 'all' : 'changed';
    try {
      const bytes = await this.#agent.fetch(manifest, trust, () => {});
      faultPoint('restore/fetched');
      this.#log.info({ epoch, bytes }, 'epoch fetched from disk');
      await this.#epochs.takeFetched(manifest);
    } finally {
      this.#agent.endFetch();
    }
  }

  /**
   * Reads every byte of an epoch again, in memory and on disk, wherever it is.
   * @throws UmbraError E_EPOCH_CORRUPT, E_EPOCH_UNKNOWN
   */
  async verify(epoch: number): Promise<('memory' | 'disk')[]> {
    const durable = this.#persister?.find(epoch);
    const inMemory = await this.#epochs.isInMemory(epoch);
    if (!inMemory && durable === undefined) await this.#catalogue.read(epoch); // says which there are
    if (inMemory) await this.#epochs.verify(epoch, 'all');
    if (durable !== undefined) {
      await this.#agent.verifyDurable(durable).catch((error: unknown) => {
        if (this.#persister?.find(epoch) === undefined) return; // retired meanwhile
        const failure = toFailure(error, { where: 'verify on disk' });
        const hint = inMemory ? 'Its copy in memory is whole.' : undefined;
        throw new UmbraError({ ...failure, ...(hint !== undefined && { hint }) }, error);
      });
    }
    return [
      ...(inMemory ? (['memory'] as const) : []),
      ...(durable === undefined ? [] : (['disk'] as const)),
    ];
  }

  removeEpoch(epoch: number): Promise<void> {
    return this.#exclusive.run('remove an epoch', () => this.#epochs.remove(epoch));
  }

  /**
   * Ends a round that is under way, or asked for.
   * @returns false if there is none, or it is being published and will stand
   */
  abort(reason: string): boolean {
    const failure = { code: 'E_ROUND_ABORTED', message: reason };
    const ends = this.#runner?.abort(failure) ?? false;
    const waits = this.#queue.why !== undefined || this.#beginning.size > 0;
    this.#queue.abort();
    for (const beginning of this.#beginning) beginning.abort(new UmbraError(failure));
    return ends || waits;
  }

  /** Ends what is under way, takes on nothing more, and resolves when nothing is. */
  async end(): Promise<void> {
    this.#exclusive.end();
    for (const endHold of [...this.#holds.values()]) endHold();
    this.#schedule?.stop();
    this.abort('the daemon is ending');
    const folded = this.#foldJob.end();
    const stopped = this.#persister?.stop();
    await this.#exclusive.settled();
    await stopped;
    await folded;
  }
}

function roundName(epoch: number): string {
  return `r${String(epoch).padStart(6, '0')}-${randomBytes(4).toString('hex')}`;
}
