/** An agent's part in the durable tier: jobs, each in a process (durable-process.ts), and their ends. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { EpochManifest, PersistResult, Progress } from '../../shadow/index.ts';
import { roundsRead } from '../../shadow/index.ts';
import type { ClusterConfig, PersistConfig } from '../config.ts';
import { UmbraError } from '../failure.ts';
import type { DurableJob, DurableResults, FromDurable } from './durable-messages.ts';

type JobOf<T extends DurableJob['type']> = Extract<DurableJob, { type: T }>;

export class DurableTier {
  readonly #config: ClusterConfig;
  readonly #children = new Set<ChildProcess>();
  #persisting: ChildProcess | undefined;
  #persistEnded = false;
  /** Rounds whose folders a job reads or fills, and how many jobs do. */
  readonly #held = new Map<string, number>();

  constructor(config: ClusterConfig) {
    this.#config = config;
  }

  /** Folders of the store that must stay, whatever the catalogue says. */
  get held(): ReadonlySet<string> {
    return new Set(this.#held.keys());
  }

  /** One at a time. @throws UmbraError E_PERSIST_ENDED, or what went wrong */
  async persist(
    epoch: EpochManifest,
    onProgress: (progress: Progress) => void,
  ): Promise<PersistResult> {
    const { rate, parallel, mode } = this.#settings;
    this.#persistEnded = false;
    const rounds = await roundsRead(epoch, this.#config.shadowsDirectory);
    const isAwaited = mode === 'before-commit';
    const terms = { rate, parallel, isAwaited };
    const job = { type: 'persist', ...this.#place, epoch, ...terms } as const;
    return this.#holding(rounds, async () => {
      const child = this.#start();
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
    onProgress: (progress: Progress) => void,
  ): Promise<number> {
    const { headroomBytes, budgetBytes } = this.#config.store;
    const number = String(epoch.epoch).padStart(6, '0');
    const staging = `r${number}-${randomBytes(4).toString('hex')}`;
    const job: JobOf<'fetch'> = {
      ...{ type: 'fetch', ...this.#place, epoch },
      ...{ staging, trust, headroomBytes, budgetBytes },
    };
    return this.#holding(new Set([staging, epoch.round]), () => {
      return this.#run(this.#start(), job, onProgress);
    });
  }

  async verify(epoch: EpochManifest): Promise<void> {
    const job: JobOf<'verify'> = { type: 'verify', ...this.#place, epoch };
    await this.#run(this.#start(), job, () => {});
  }

  close(): void {
    this.endPersist();
    for (const child of this.#children) child.kill('SIGKILL');
  }

  async #holding<T>(rounds: ReadonlySet<string>, work: () => Promise<T>): Promise<T> {
    for (const round of rounds) this.#held.set(round, (this.#held.get(round) ?? 0) + 1);
    try {
      return await work();
    } finally {
      for (const round of rounds) {
        const others = (this.#held.get(round) ?? 1) - 1;
        if (others > 0) this.#held.set(round, others);
        else this.#held.delete(round);
      }
    }
  }

  #start(): ChildProcess {
    // Run from source, or from the built package: the sibling has our own extension.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const entry = fileURLToPath(new URL(`./durable-process.${extension}`, import.meta.url));
    const child = fork(entry, [], {
      detached: true, // a session of its own, for its priority
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  #run<T extends DurableJob['type']>(
    child: ChildProcess,
    job: JobOf<T>,
    onProgress: (progress: Progress) => void,
  ): Promise<DurableResults[T]> {
    return new Promise((resolve, reject) => {
      const lost = (cause?: unknown) => {
        const message = `the process that was to ${job.type} epoch ${job.epoch.epoch} ended`;
        reject(new UmbraError({ code: 'E_DURABLE_LOST', message }, cause));
      };
      let answer: (() => void) | undefined;
      child.once('error', lost);
      // When it has ended, nothing is written any more: only then is the answer given.
      child.once('exit', () => (answer ?? lost)());
      child.on('message', (message: FromDurable) => {
        if (message.kind === 'progress') onProgress(message.progress);
        if (message.kind === 'done') answer = () => resolve(message.result as DurableResults[T]);
        if (message.kind === 'failed') answer = () => reject(new UmbraError(message.failure));
      });
      child.send(job, (error) => {
        if (error !== null) child.kill('SIGKILL');
      });
    });
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
