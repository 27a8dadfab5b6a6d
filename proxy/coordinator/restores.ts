/**
 * Restores of a cluster's epochs, and clones: an epoch of another cluster, brought up here.
 *
 *     restore   choose ─▶ (fetch from disk) ─▶ restoreEpoch ─▶ tidy disks
 *     relayed   choose in the relay's store ─▶ restoreEpoch, of one member
 *     clone     hold the other cluster's epoch ─▶ restoreEpoch ─▶ release
 */
import type { Logger } from 'pino';
import { Catalogue, type EpochManifest } from '../../shadow/index.ts';
import { holdEpoch } from '../client/epoch-hold.ts';
import { faultPoint } from '../failure/fault-point.ts';
import { clusterFolder } from '../host/folders.ts';
import type { Agent, CloneOrigin } from '../protocol/agent.ts';
import type { ClusterConfig } from '../protocol/cluster.ts';
import type { RestoreOptions } from '../protocol/operator.ts';
import type { RestoreProgress } from '../protocol/progress.ts';
import type { RestoreReport } from '../protocol/report.ts';
import type { Persister } from './durable/persister.ts';
import type { Epochs } from './epochs/epochs.ts';
import type { ChosenEpoch, EpochChoice } from './restores/epoch-choice.ts';
import { chooseRelayed, type RelayedRequest } from './restores/relayed.ts';
import { restoreEpoch } from './restores/restore.ts';
import type { Exclusive } from './rounds/exclusive.ts';
import { tidy, tidyDisks } from './tidying.ts';

export interface CloneRequest extends Omit<RestoreOptions, 'replace'> {
  readonly origin: CloneOrigin;
  /** Number of the epoch in the source; the newest there if undefined. */
  readonly epoch: number | undefined;
}

export interface RestoresOptions {
  readonly config: ClusterConfig;
  readonly agent: Agent;
  readonly epochs: Epochs;
  readonly choice: EpochChoice;
  /** Undefined without a durable tier. */
  readonly persister: Persister | undefined;
  readonly exclusive: Exclusive;
  readonly log: Logger;
}

type OnProgress = (progress: RestoreProgress) => void;

export class Restores {
  readonly #config: ClusterConfig;
  readonly #agent: Agent;
  readonly #epochs: Epochs;
  readonly #choice: EpochChoice;
  readonly #persister: Persister | undefined;
  readonly #exclusive: Exclusive;
  readonly #log: Logger;
  #last: RestoreReport | undefined;

  constructor({ config, agent, epochs, choice, persister, exclusive, log }: RestoresOptions) {
    this.#config = config;
    this.#agent = agent;
    this.#epochs = epochs;
    this.#choice = choice;
    this.#persister = persister;
    this.#exclusive = exclusive;
    this.#log = log;
  }

  get last(): RestoreReport | undefined {
    return this.#last;
  }

  /**
   * Brings the cluster back as it was in an epoch.
   * @param epoch the newest if undefined
   * @throws UmbraError why not, with the epochs that can be restored instead
   */
  restore(
    epoch: number | undefined,
    options: RestoreOptions,
    onProgress: OnProgress,
  ): Promise<RestoreReport> {
    return this.#exclusive.run('restore', async () => {
      const askedAt = performance.now();
      const { manifest, fetch } = await this.#choose(epoch, options.from);
      try {
        if (fetch) await this.#fetch(manifest, options.from, onProgress);
        const fetchMs = fetch ? performance.now() - askedAt : undefined;
        const report = await restoreEpoch({
          agent: this.#agent,
          epoch: manifest,
          options,
          askedAt,
          log: this.#log,
          onProgress,
        });
        this.#last = { ...report, fetchMs };
        const parts = { agent: this.#agent, epochs: this.#epochs };
        await tidy('disks', this.#log, () => tidyDisks(parts));
        return this.#last;
      } catch (error) {
        throw await this.#choice.offerAnother(manifest.epoch, error);
      }
    });
  }

  /**
   * Brings this cluster up from an epoch of another, which runs on. This one's VMs must not run.
   * @throws UmbraError why not; nothing that was started is left
   */
  clone(
    { origin, epoch, ...options }: CloneRequest,
    onProgress: OnProgress,
  ): Promise<RestoreReport> {
    return this.#exclusive.run('clone', async () => {
      const askedAt = performance.now();
      const { source } = origin;
      const hold = await holdEpoch(source, epoch);
      try {
        const catalogue = new Catalogue(source.catalogueDirectory, source.cluster);
        const manifest = await catalogue.read(hold.epoch);
        const agent = this.#agent.cloneOf(origin);
        let isHeld: Promise<void> | undefined;
        const resume = async (member: string) => {
          isHeld ??= hold.require(); // else what was loaded may be another round's memory
          await isHeld;
          return agent.resume(member);
        };
        const report = await restoreEpoch({
          agent: { ...agent, resume },
          epoch: manifest,
          options: { ...options, replace: false },
          askedAt,
          log: this.#log,
          onProgress,
        });
        this.#last = report;
        return report;
      } finally {
        await hold.release();
      }
    });
  }

  /**
   * Brings one member back as it was when it passed a relay. The others are left as they are.
   * @throws UmbraError why not; nothing that was started is left
   */
  restoreRelayed(
    request: RelayedRequest,
    options: RestoreOptions,
    onProgress: OnProgress,
  ): Promise<RestoreReport> {
    return this.#exclusive.run('restore', async () => {
      const askedAt = performance.now();
      const epochs = clusterFolder(request.store, 'epochs');
      const names = this.#config.members.map(({ name }) => name);
      const { manifest, origin, require } = await chooseRelayed(request, epochs, names);
      const agent = this.#agent.relayed(origin);
      const resume = async (member: string) => {
        await require(); // else what was loaded may be the memory of a later migration
        return agent.resume(member);
      };
      const relayed = { ...agent, resume };
      const report = await restoreEpoch({
        agent: relayed,
        epoch: manifest,
        options,
        askedAt,
        log: this.#log,
        onProgress,
      });
      this.#last = report;
      return report;
    });
  }

  /** @throws UmbraError what is wrong with the epoch, and which can be restored instead */
  async #choose(epoch: number | undefined, from: RestoreOptions['from']): Promise<ChosenEpoch> {
    try {
      return await this.#choice.choose(epoch, from);
    } catch (error) {
      throw epoch === undefined ? error : await this.#choice.offerAnother(epoch, error);
    }
  }

  /** Brings an epoch from disk: from then on it is in memory like any other. */
  async #fetch(
    manifest: EpochManifest,
    from: RestoreOptions['from'],
    onProgress: OnProgress,
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
}
