/**
 * An agent's part in the durable tier: it starts a process for each job (job-process.ts), and one
 * that keeps the list of epochs on disk (list-process.ts). The agent itself never touches that
 * disk: it might hang.
 */
import { randomBytes } from 'node:crypto';
import pLimit from 'p-limit';
import type { PersistProgress, PersistResult } from '../../../shadow/durable/index.ts';
import { roundsRead } from '../../../shadow/durable/index.ts';
import { type EpochManifest, ROUND_RANDOM_BYTES, roundName } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';
import { Child } from '../../host/child.ts';
import { sleepsOnDisk } from '../../host/pid-file.ts';
import { programPath } from '../../host/program.ts';
import type { Calls } from '../../protocol/channel.ts';
import type { ClusterConfig, PersistConfig } from '../../protocol/cluster.ts';
import {
  type DurableJob,
  type DurableList,
  type DurableLocation,
  type DurableRequest,
  type DurableResult,
  JOB_AGENT_CALLS,
  JOB_CALLS,
  type JobType,
  LIST_CALLS,
} from '../../protocol/durable.ts';
import type { RoundsInUse } from '../store/rounds-in-use.ts';

/** Paths of the programs whose processes touch the disk. */
export interface DurablePrograms {
  readonly list: string;
  readonly job: string;
}

const PROGRAMS: DurablePrograms = {
  list: programPath('proxy/agent/durable/list-process'),
  job: programPath('proxy/agent/durable/job-process'),
};
/** A slow disk that works answers sooner. */
const SILENT_AFTER_MS = 20_000;
const SILENCE_POLL_MS = 1_000;
/** A process that is blocked on a hung disk does not end when it is killed. */
const CLOSE_LIMIT_MS = 2_000;

type JobChild = Child<typeof JOB_CALLS, typeof JOB_AGENT_CALLS>;
type ListChild = Child<typeof LIST_CALLS, Calls>;
/** Any of them, as far as its process matters. */
type AnyChild = Pick<JobChild, 'pid' | 'kill' | 'ended'>;

export class DurableTier {
  readonly #config: ClusterConfig;
  readonly #children = new Set<AnyChild>();
  readonly #mutex = pLimit(1);
  /** Processes that owe an answer, and when each last sent a message (performance.now()). */
  readonly #owing = new Map<AnyChild, number>();
  #keeper: ListChild | undefined;
  #persisting: JobChild | undefined;
  #persistEnded = false;
  readonly #held: RoundsInUse;
  readonly #programs: DurablePrograms;

  /** @param held takes the rounds whose folders a job reads or fills */
  constructor(config: ClusterConfig, held: RoundsInUse, programs: DurablePrograms = PROGRAMS) {
    this.#config = config;
    this.#held = held;
    this.#programs = programs;
  }

  /**
   * Writes the shadows of an epoch to disk; one epoch at a time.
   * @throws UmbraError E_PERSIST_ENDED, E_DURABLE_LOST, or the job's own failure
   */
  async persist(
    epoch: EpochManifest,
    onProgress: (progress: PersistProgress) => void,
  ): Promise<PersistResult> {
    const { rate, parallel, mode } = this.#settings;
    this.#persistEnded = false;
    const rounds = await roundsRead(epoch, this.#config.shadowsDirectory);
    const isAwaited = mode === 'before-commit';
    const job = { ...this.#location, epoch, rate, parallel, isAwaited };
    return this.#holding(rounds, async () => {
      const child = this.#startJob(onProgress);
      this.#persisting = child;
      if (this.#persistEnded) child.kill();
      try {
        return await this.#run(child, 'persist', job);
      } catch (error) {
        if (!this.#persistEnded) throw error;
        const message = `persisting epoch ${epoch.epoch} was ended`;
        throw new UmbraError({ code: 'E_PERSIST_ENDED', message }, error);
      } finally {
        this.#persisting = undefined;
      }
    });
  }

  /** Ends persisting, at whatever step. Shadows that are whole on disk by then are kept. */
  endPersist(): void {
    this.#persistEnded = true;
    this.#persisting?.kill();
  }

  /**
   * Reads the shadows of an epoch from disk into the store.
   * @returns bytes fetched
   * @throws UmbraError E_DURABLE_SILENT, E_DURABLE_LOST, or the job's own failure
   */
  fetch(
    epoch: EpochManifest,
    trust: 'changed' | 'all',
    onProgress: (progress: PersistProgress) => void,
  ): Promise<number> {
    const { headroomBytes, budgetBytes } = this.#config.store;
    const staging = roundName(epoch.epoch, randomBytes(ROUND_RANDOM_BYTES));
    const job = { ...this.#location, epoch, staging, trust, headroomBytes, budgetBytes };
    return this.#holding(new Set([staging, epoch.round]), () => {
      return this.#run(this.#startJob(onProgress), 'fetch', job);
    });
  }

  /** Reads every byte of an epoch on disk. @throws UmbraError as `fetch` */
  async verify(epoch: EpochManifest): Promise<void> {
    await this.#run(this.#startJob(), 'verify', { ...this.#location, epoch });
  }

  /**
   * Asks the keeper of the list; one request at a time.
   * @throws UmbraError E_DURABLE_LOST, or the keeper's own failure
   */
  ask(request: DurableRequest): Promise<DurableList> {
    return this.#mutex(() => this.#ask(request));
  }

  async #ask(request: DurableRequest): Promise<DurableList> {
    const keeper = this.#keeper ?? this.#startKeeper();
    this.#owing.set(keeper, performance.now());
    try {
      return await keeper.channel.call('ask', { location: this.#location, request });
    } catch (error) {
      throw lost(error, `the process that was to ${request.type} on disk ended`);
    } finally {
      this.#owing.delete(keeper);
    }
  }

  /**
   * Returns for how long the disk has kept a process waiting, milliseconds; undefined while a
   * working disk would, too. A process that is starved or frozen is silent as well: only one that
   * sleeps on the disk counts.
   */
  get silentMs(): number | undefined {
    const waits = [...this.#owing.keys()].flatMap((child) => this.#silenceOf(child) ?? []);
    return waits.length === 0 ? undefined : Math.max(...waits);
  }

  #silenceOf(child: AnyChild): number | undefined {
    const ms = performance.now() - (this.#owing.get(child) ?? Number.POSITIVE_INFINITY);
    return ms > SILENT_AFTER_MS && sleepsOnDisk(child.pid) ? ms : undefined;
  }

  /** Ends all processes, as far as they can be ended. */
  async close(): Promise<void> {
    this.endPersist();
    const ended = Promise.all([...this.#children].map((child) => child.ended));
    for (const child of this.#children) child.kill();
    await settles(ended, CLOSE_LIMIT_MS);
  }

  async #holding<T>(rounds: ReadonlySet<string>, work: () => Promise<T>): Promise<T> {
    for (const round of rounds) this.#held.hold(round);
    try {
      return await work();
    } finally {
      for (const round of rounds) this.#held.release(round);
    }
  }

  #startKeeper(): ListChild {
    const keeper: ListChild = new Child(this.#programs.list, {
      remote: LIST_CALLS,
      local: {},
      handlers: {},
      gone,
      onMisfit: () => keeper.kill(),
    });
    this.#keep(keeper);
    this.#keeper = keeper;
    void keeper.ended.then(() => {
      if (this.#keeper === keeper) this.#keeper = undefined;
    });
    return keeper;
  }

  #startJob(onProgress: (progress: PersistProgress) => void = () => {}): JobChild {
    const child: JobChild = new Child(this.#programs.job, {
      remote: JOB_CALLS,
      local: JOB_AGENT_CALLS,
      handlers: { progress: onProgress },
      gone,
      onHeard: () => this.#owing.set(child, performance.now()),
      onMisfit: () => child.kill(),
    });
    this.#keep(child);
    return child;
  }

  #keep(child: AnyChild): void {
    this.#children.add(child);
    void child.ended.then(() => {
      this.#children.delete(child);
      this.#owing.delete(child);
    });
  }

  /**
   * Runs a job. The answer is given when its process has ended: then nothing is written any more.
   */
  async #run<T extends JobType>(
    child: JobChild,
    type: T,
    job: DurableJob<T>,
  ): Promise<DurableResult<T>> {
    this.#owing.set(child, performance.now());
    // Callers wait for a fetch or a check; the persister has limits of its own.
    const watch = type === 'persist' ? undefined : this.#watchSilence(child);
    try {
      return await Promise.race([this.#answer(child, type, job), ...(watch ? [watch.silent] : [])]);
    } finally {
      watch?.end();
    }
  }

  async #answer<T extends JobType>(
    child: JobChild,
    type: T,
    job: DurableJob<T>,
  ): Promise<DurableResult<T>> {
    try {
      return (await child.channel.call<JobType>(type, job)) as DurableResult<T>;
    } catch (error) {
      throw lost(error, `the process that was to ${type} epoch ${job.epoch.epoch} ended`);
    } finally {
      child.hangUp();
      await child.ended;
    }
  }

  /** Gives a job up, whose process sleeps on a disk that does not answer. */
  #watchSilence(child: JobChild): { readonly silent: Promise<never>; end(): void } {
    let timer: NodeJS.Timeout | undefined;
    const silent = new Promise<never>((_, reject) => {
      timer = setInterval(() => {
        const silentMs = this.#silenceOf(child);
        if (silentMs === undefined) return;
        clearInterval(timer);
        child.kill(); // it ends when the disk answers
        const message = `the disk of persist.to has not answered for ${Math.round(silentMs)} ms`;
        reject(new UmbraError({ code: 'E_DURABLE_SILENT', message }));
      }, SILENCE_POLL_MS);
    });
    return { silent, end: () => clearInterval(timer) };
  }

  get #location(): DurableLocation {
    const { cluster, shadowsDirectory } = this.#config;
    return { cluster, directory: this.#settings.directory, shadowsDirectory };
  }

  get #settings(): PersistConfig {
    const { persist } = this.#config;
    if (persist !== undefined) return persist;
    const message = 'this cluster has no durable tier: persist.to is not set';
    throw new UmbraError({ code: 'E_PERSIST_OFF', message });
  }
}

function gone(): UmbraError {
  return new UmbraError({ code: 'E_DURABLE_LOST', message: 'the process ended' });
}

/** Says of a process that ended what it was to do; other errors stay as they are. */
function lost(error: unknown, message: string): unknown {
  if (!(error instanceof UmbraError) || error.code !== 'E_DURABLE_LOST') return error;
  return new UmbraError({ code: 'E_DURABLE_LOST', message }, error);
}
