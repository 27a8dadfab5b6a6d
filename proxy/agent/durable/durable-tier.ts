/**
 * An agent's part in the durable tier: jobs, each in a process (job-process.ts), and their ends; and the
 * keeper of the list (list-process.ts). The agent itself never touches that disk: it might hang.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import pLimit from 'p-limit';
import type { PersistProgress, PersistResult } from '../../../shadow/durable/index.ts';
import { roundsRead } from '../../../shadow/durable/index.ts';
import { type EpochManifest, ROUND_RANDOM_BYTES, roundName } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';
import { sleepsOnDisk } from '../../host/pid-file.ts';
import { programPath } from '../../host/program.ts';
import type { DurableList, DurableRequest } from '../../protocol/agent.ts';
import type { ClusterConfig, PersistConfig } from '../../protocol/cluster.ts';
import type {
  DurableJob,
  DurableResults,
  FromDurable,
  FromListKeeper,
  ToListKeeper,
} from '../../protocol/durable.ts';
import type { RoundsInUse } from '../store/rounds-in-use.ts';

/** One flush of a disk that is only slow takes less. */
const SILENT_AFTER_MS = 20_000;
const SILENCE_POLL_MS = 1_000;
/** Whoever sleeps on a disk that hangs does not end when he is killed. */
const CLOSE_LIMIT_MS = 2_000;

type JobOf<T extends DurableJob['type']> = Extract<DurableJob, { type: T }>;

export class DurableTier {
  readonly #config: ClusterConfig;
  readonly #children = new Set<ChildProcess>();
  readonly #questions = pLimit(1);
  /** Those that owe us an answer, and when they last said something (performance.now()). */
  readonly #owing = new Map<ChildProcess, number>();
  #keeper: ChildProcess | undefined;
  #persisting: ChildProcess | undefined;
  #persistEnded = false;
  readonly #held: RoundsInUse;

  /** @param held comes to hold rounds whose folders a job reads or fills */
  constructor(config: ClusterConfig, held: RoundsInUse) {
    this.#config = config;
    this.#held = held;
  }

  /** One at a time. @throws UmbraError E_PERSIST_ENDED, or what went wrong */
  async persist(
    epoch: EpochManifest,
    onProgress: (progress: PersistProgress) => void,
  ): Promise<PersistResult> {
    const { rate, parallel, mode } = this.#settings;
    this.#persistEnded = false;
    const rounds = await roundsRead(epoch, this.#config.shadowsDirectory);
    const isAwaited = mode === 'before-commit';
    const options = { rate, parallel, isAwaited };
    const job = { type: 'persist', ...this.#place, epoch, ...options } as const;
    return this.#holding(rounds, async () => {
      const child = this.#start('job-process');
      this.#persisting = child;
      if (this.#persistEnded) child.kill('SIGKILL');
      try {
        return await this.#run(child, job, onProgress);
      } catch (error) {
        if (!this.#persistEnded) throw error;
        const message = `persisting epoch ${epoch.epoch} was ended`;
        throw new UmbraError({ code: 'E_PERSIST_ENDED', message }, error);
      } finally {
        this.#persisting = undefined;
      }
    });
  }

  /** Ends persisting, at whatever step. What is whole on disk by then is kept. */
  endPersist(): void {
    this.#persistEnded = true;
    this.#persisting?.kill('SIGKILL');
  }

  /** @returns bytes fetched @throws UmbraError */
  fetch(
    epoch: EpochManifest,
    trust: 'changed' | 'all',
    onProgress: (progress: PersistProgress) => void,
  ): Promise<number> {
    const { headroomBytes, budgetBytes } = this.#config.store;
    const staging = roundName(epoch.epoch, randomBytes(ROUND_RANDOM_BYTES));
    const job: JobOf<'fetch'> = {
      ...{ type: 'fetch', ...this.#place, epoch },
      ...{ staging, trust, headroomBytes, budgetBytes },
    };
    return this.#holding(new Set([staging, epoch.round]), () => {
      return this.#run(this.#start('job-process'), job, onProgress);
    });
  }

  async verify(epoch: EpochManifest): Promise<void> {
    const job: JobOf<'verify'> = { type: 'verify', ...this.#place, epoch };
    await this.#run(this.#start('job-process'), job, () => {});
  }

  /**
   * Asks the keeper of the list; one question at a time.
   * @throws UmbraError E_DURABLE_LOST, or what went wrong
   */
  ask(request: DurableRequest): Promise<DurableList> {
    return this.#questions(() => this.#ask(request));
  }

  #ask(request: DurableRequest): Promise<DurableList> {
    const keeper = this.#keeper ?? this.#startKeeper();
    this.#owing.set(keeper, performance.now());
    return new Promise<DurableList>((resolve, reject) => {
      const onAnswer = (message: FromListKeeper) => {
        keeper.off('exit', onLost).off('error', onLost);
        this.#owing.delete(keeper);
        if (message.kind === 'view') resolve(message.view);
        else reject(new UmbraError(message.failure));
      };
      const onLost = () => {
        keeper.off('message', onAnswer);
        this.#owing.delete(keeper);
        const message = `the process that was to ${request.type} on disk ended`;
        reject(new UmbraError({ code: 'E_DURABLE_LOST', message }));
      };
      keeper.once('message', onAnswer).once('exit', onLost).once('error', onLost);
      const question: ToListKeeper = { place: this.#place, request };
      keeper.send(question, (error) => {
        if (error !== null) keeper.kill('SIGKILL');
      });
    });
  }

  /**
   * How long the disk has let somebody wait, milliseconds; undefined as long as that is nothing special.
   * Starved or frozen, a process of ours is silent, too: it is the disk's doing only if it sleeps there.
   */
  get silentMs(): number | undefined {
    const waits = [...this.#owing.keys()].flatMap((child) => this.#silenceOf(child) ?? []);
    return waits.length === 0 ? undefined : Math.max(...waits);
  }

  #silenceOf(child: ChildProcess): number | undefined {
    const ms = performance.now() - (this.#owing.get(child) ?? Number.POSITIVE_INFINITY);
    return ms > SILENT_AFTER_MS && sleepsOnDisk(child.pid ?? 0) ? ms : undefined;
  }

  async close(): Promise<void> {
    this.endPersist();
    const children = [...this.#children];
    const ended = Promise.all(
      children.map((child) => new Promise((done) => child.once('exit', done))),
    );
    for (const child of children) child.kill('SIGKILL');
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

  #startKeeper(): ChildProcess {
    const keeper = this.#start('list-process');
    this.#keeper = keeper;
    const forget = () => {
      if (this.#keeper === keeper) this.#keeper = undefined;
    };
    keeper.once('exit', forget).once('error', forget);
    return keeper;
  }

  #start(program: 'job-process' | 'list-process'): ChildProcess {
    const child = fork(programPath(`proxy/agent/durable/${program}`), [], {
      detached: true, // a session of its own, for its priority
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    // One that could not be started never exits. Other errors are told to who waits for an answer.
    child.on('error', () => {
      if (child.pid === undefined) this.#children.delete(child);
    });
    return child;
  }

  #run<T extends DurableJob['type']>(
    child: ChildProcess,
    job: JobOf<T>,
    onProgress: (progress: PersistProgress) => void,
  ): Promise<DurableResults[T]> {
    this.#owing.set(child, performance.now());
    return new Promise((resolve, reject) => {
      // Somebody waits for what is read; what is written is waited for by the persister, in its own way.
      const watch = job.type === 'persist' ? undefined : this.#giveUpWhenSilent(child, reject);
      const lost = (cause?: unknown) => {
        clearInterval(watch);
        this.#owing.delete(child);
        const message = `the process that was to ${job.type} epoch ${job.epoch.epoch} ended`;
        reject(new UmbraError({ code: 'E_DURABLE_LOST', message }, cause));
      };
      let answer: (() => void) | undefined;
      child.once('error', lost);
      // When it has ended, nothing is written any more: only then is the answer given.
      child.once('exit', () => {
        clearInterval(watch);
        this.#owing.delete(child);
        (answer ?? lost)();
      });
      child.on('message', (message: FromDurable) => {
        this.#owing.set(child, performance.now());
        if (message.kind === 'progress') onProgress(message.progress);
        if (message.kind === 'done') answer = () => resolve(message.result as DurableResults[T]);
        if (message.kind === 'failed') answer = () => reject(new UmbraError(message.failure));
      });
      child.send(job, (error) => {
        if (error !== null) child.kill('SIGKILL');
      });
    });
  }

  #giveUpWhenSilent(child: ChildProcess, reject: (error: UmbraError) => void): NodeJS.Timeout {
    const watch = setInterval(() => {
      const silentMs = this.#silenceOf(child);
      if (silentMs === undefined) return;
      clearInterval(watch);
      child.kill('SIGKILL'); // it ends when the disk goes on
      const message = `the disk of persist.to has not answered for ${Math.round(silentMs)} ms`;
      reject(new UmbraError({ code: 'E_DURABLE_SILENT', message }));
    }, SILENCE_POLL_MS);
    return watch;
  }

  get #place() {
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
