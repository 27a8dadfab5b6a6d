/**
 * Brings a cluster's epochs to disk, one after the other, and says what is there.
 *
 *     IDLE ──wake──▶ PERSISTING the newest epoch that is only in memory ──▶ … ──none left──▶ IDLE
 *                          │                                                  retain, collect
 *                          └──failed──▶ WAITING, and tried again in its time (or at the next epoch)
 *
 * An epoch that cannot be read, or whose number another epoch has on disk, is given up: to try again
 * would help nobody. Whatever fails, the epoch in memory stands.
 */
import type { Logger } from 'pino';
import {
  type Catalogue,
  DurableStore,
  type EpochManifest,
  type Listing,
  type Progress,
  pinnedEpochs,
} from '../../shadow/index.ts';
import type { Agent } from '../agent/contract.ts';
import type { ClusterConfig, PersistConfig } from '../config.ts';
import { type Failure, toFailure, UmbraError } from '../failure.ts';
import { faultPoint } from '../fault-point.ts';
import { type Lock, lockCluster } from '../lock.ts';

const RETRY_MS = 15_000;
const RETRY_MAX_MS = 600_000;
const HOPELESS: ReadonlySet<string> = new Set([
  'E_EPOCH_CORRUPT',
  'E_EPOCH_EXISTS',
  'E_MANIFEST_INVALID',
  'E_MANIFEST_VERSION',
]);
const NOTHING: Listing = { epochs: [], damaged: [] };

export interface PersistStatus {
  readonly directory: string;
  readonly mode: PersistConfig['mode'];
  /** Why what is there may not outlive the host's memory. */
  readonly doubt: string | undefined;
  readonly persisting: { readonly epoch: number; readonly share: number } | undefined;
  /** Why the last attempt failed; undefined when one has succeeded since. */
  readonly failure: Failure | undefined;
  /** When it is tried again, ISO 8601. */
  readonly retryAt: string | undefined;
  readonly last: PersistReport | undefined;
}

export interface PersistReport {
  readonly epoch: number;
  readonly durationMs: number;
  /** Of memory, without holes. */
  readonly contentBytes: number;
  /** What it takes on disk. */
  readonly storedBytes: number;
}

export class Persister {
  readonly #settings: PersistConfig;
  readonly #config: ClusterConfig;
  readonly #agent: Agent;
  readonly #catalogue: Catalogue;
  readonly #store: DurableStore;
  readonly #log: Logger;
  readonly #hopeless = new Map<string, Failure>();
  #listing: Listing = NOTHING;
  #nextEpoch = 1;
  #lock: Lock | undefined;
  #doubt: string | undefined;
  #persisting: { epoch: number; progress: Progress } | undefined;
  #failure: Failure | undefined;
  #attempts = 0;
  #retryAt: Date | undefined;
  #retry: NodeJS.Timeout | undefined;
  #last: PersistReport | undefined;
  #working: Promise<void> | undefined;
  #paused = 0;
  #stopped = false;

  constructor(
    settings: PersistConfig,
    config: ClusterConfig,
    agent: Agent,
    catalogue: Catalogue,
    log: Logger,
  ) {
    this.#settings = settings;
    this.#config = config;
    this.#agent = agent;
    this.#catalogue = catalogue;
    this.#store = new DurableStore(settings.directory, config.cluster);
    this.#log = log;
  }

  /** Looks at what is on disk, and takes up what was cut short. A failure is told, and tried again. */
  async start(): Promise<void> {
    try {
      await this.#open();
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.wake();
  }

  /** Ends what is under way; what is whole on disk stays. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#agent.endPersist();
    await this.#working;
    this.#lock?.release();
    this.#lock = undefined;
  }

  get status(): PersistStatus {
    const { directory, mode } = this.#settings;
    const { epoch = 0, progress } = this.#persisting ?? {};
    const share = progress && Math.min(1, progress.doneBytes / Math.max(1, progress.totalBytes));
    return {
      ...{ directory, mode, doubt: this.#doubt },
      persisting: share === undefined ? undefined : { epoch, share },
      failure: this.#failure ?? [...this.#hopeless.values()].at(-1),
      retryAt: this.#retryAt?.toISOString(),
      last: this.#last,
    };
  }

  /** What is on disk, as of the last look. */
  get listing(): Listing {
    return this.#listing;
  }

  /** The number after the highest that was ever on disk. */
  get nextEpoch(): number {
    return this.#nextEpoch;
  }

  /** Its shadows in memory are being read. */
  isPersisting(epoch: number): boolean {
    return this.#persisting?.epoch === epoch;
  }

  /** The epoch on disk; undefined if it is not there. @throws ShadowError if it is damaged */
  find(epoch: number): EpochManifest | undefined {
    const broken = this.#listing.damaged.find((one) => one.epoch === epoch);
    if (broken !== undefined) throw broken.error;
    return this.#listing.epochs.find((one) => one.epoch === epoch);
  }

  /** There may be an epoch to persist. */
  wake(): void {
    if (this.#working !== undefined || this.#stopped || this.#paused > 0) return;
    clearTimeout(this.#retry);
    this.#retryAt = undefined;
    this.#working = this.#work().finally(() => {
      this.#working = undefined;
    });
  }

  /**
   * Brings an epoch to disk that is published nowhere yet, and lists it there.
   * @throws UmbraError, and it is not listed
   */
  async beforeCommit(epoch: EpochManifest): Promise<void> {
    const { timeLimitMs } = this.#settings;
    await this.#alone(async () => {
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        this.#agent.endPersist();
      }, timeLimitMs);
      try {
        this.#requireGoingOn();
        await this.#open();
        await this.#persist(epoch);
      } catch (error) {
        const message = `the epoch was not on disk after ${timeLimitMs} ms (persist.timeLimit)`;
        await this.#onFull(error);
        const told = late ? new UmbraError({ code: 'E_PERSIST_SLOW', message }, error) : error;
        this.#failure = toFailure(told, { where: 'persist' });
        throw told;
      } finally {
        clearTimeout(timer);
      }
    });
  }

  #requireGoingOn(): void {
    if (!this.#stopped) return;
    throw new UmbraError({ code: 'E_DAEMON_ENDING', message: 'the daemon is ending' });
  }

  /** Makes an epoch no longer exist on disk. */
  async remove(epoch: number): Promise<void> {
    await this.#alone(async () => {
      const { epochs, damaged } = this.#listing;
      if (![...epochs, ...damaged].some((one) => one.epoch === epoch)) return;
      await this.#store.retire([epoch], onStep);
      await this.#look();
    });
  }

  /** Whatever is under way is ended first, and taken up again afterwards. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    this.#paused++;
    try {
      if (this.#working !== undefined) this.#agent.endPersist();
      await this.#working;
      return await work();
    } finally {
      this.#paused--;
      this.wake();
    }
  }

  async #work(): Promise<void> {
    try {
      await this.#open();
      for (;;) {
        const epoch = await this.#nextWanted();
        if (epoch === undefined || this.#stopped || this.#paused > 0) break;
        try {
          await this.#persist(epoch);
        } catch (error) {
          if (this.#stopped || this.#paused > 0) return; // it was ended, and is taken up again
          const failure = toFailure(error, { where: `persist epoch ${epoch.epoch}` });
          if (!HOPELESS.has(failure.code)) throw error;
          // Retired or folded meanwhile, it is not there any more, or is elsewhere: no failure.
          if (!(await this.#isInMemory(epoch))) continue;
          this.#hopeless.set(identityOf(epoch), failure);
          this.#log.error({ failure }, 'an epoch cannot be brought to disk');
        }
      }
      if (!this.#stopped && this.#paused === 0) await this.#retain();
      this.#failure = undefined;
      this.#attempts = 0;
    } catch (error) {
      await this.#onFull(error);
      this.#fail(error);
    }
  }

  /** What is left of an attempt must not keep a disk full. */
  async #onFull(error: unknown): Promise<void> {
    if (toFailure(error, {}).code !== 'E_DURABLE_NO_ROOM') return;
    await this.#store.collect().catch((err: unknown) => {
      this.#log.error({ err }, 'could not clear the disk of an epoch that does not fit');
    });
  }

  async #persist(manifest: EpochManifest): Promise<void> {
    const { epoch } = manifest;
    const startedAt = performance.now();
    this.#persisting = { epoch, progress: { doneBytes: 0, totalBytes: 1 } };
    try {
      const { contentBytes, storedBytes } = await this.#agent.persist(manifest, (progress) => {
        this.#persisting = { epoch, progress };
      });
      await this.#store.publish(manifest, onStep);
      const durationMs = performance.now() - startedAt;
      this.#last = { epoch, durationMs, contentBytes, storedBytes };
      this.#failure = undefined;
      this.#log.info(this.#last, 'epoch persisted');
      await this.#look();
    } finally {
      this.#persisting = undefined;
    }
  }

  /** The newest first: it is worth the most. Older than what is kept on disk, none is wanted. */
  async #nextWanted(): Promise<EpochManifest | undefined> {
    const { epochs } = await this.#catalogue.list();
    const there = new Set(this.#listing.epochs.map(identityOf));
    const oldest = this.#listing.epochs.at(-this.#settings.keep)?.epoch ?? 0;
    return epochs
      .slice(-this.#settings.keep)
      .findLast(
        (one) =>
          one.epoch > oldest && !there.has(identityOf(one)) && !this.#hopeless.has(identityOf(one)),
      );
  }

  async #isInMemory(epoch: EpochManifest): Promise<boolean> {
    const { epochs } = await this.#catalogue.list();
    return epochs.some((one) => identityOf(one) === identityOf(epoch) && one.round === epoch.round);
  }

  async #retain(): Promise<void> {
    const pins = await pinnedEpochs(this.#catalogue.directory);
    const old = this.#listing.epochs
      .slice(0, -this.#settings.keep)
      .map(({ epoch }) => epoch)
      .filter((epoch) => !pins.has(epoch));
    if (old.length > 0) {
      await this.#store.retire(old, onStep);
      this.#log.info({ epochs: old }, 'epochs retired from disk');
      await this.#look();
    } else await this.#store.collect();
  }

  async #open(): Promise<void> {
    await this.#store.prepare();
    this.#lock ??= this.#lockDisk();
    const { shadowsDirectory } = this.#config;
    const doubt = await this.#store.doubt(shadowsDirectory);
    if (doubt !== undefined && this.#doubt === undefined) {
      this.#log.warn({ directory: this.#store.directory }, `persist.to: ${doubt}`);
    }
    this.#doubt = doubt;
    await this.#look();
  }

  #lockDisk(): Lock {
    try {
      return lockCluster(this.#store.directory, this.#config.cluster);
    } catch (error) {
      if (toFailure(error, {}).code !== 'E_DAEMON_RUNS') throw error;
      const { directory } = this.#store;
      const message = `another daemon persists cluster ${this.#config.cluster} to ${directory}`;
      throw new UmbraError({ code: 'E_DURABLE_BUSY', message }, error);
    }
  }

  async #look(): Promise<void> {
    this.#listing = await this.#store.list();
    this.#nextEpoch = await this.#store.nextEpoch();
  }

  #fail(error: unknown): void {
    this.#failure = toFailure(error, { where: 'persist' });
    if (this.#stopped || this.#paused > 0) return;
    const ms = Math.min(RETRY_MS * 2 ** this.#attempts++, RETRY_MAX_MS);
    this.#retryAt = new Date(Date.now() + ms);
    this.#log.error({ failure: this.#failure, retryMs: ms }, 'could not persist; trying again');
    this.#retry = setTimeout(() => this.wake(), ms);
  }
}

function onStep(step: string): void {
  faultPoint(`persist/${step}`);
}

/** An epoch and its copy: the round it names may become another when it is folded. */
function identityOf({ epoch, createdAt }: EpochManifest): string {
  return `${epoch} ${createdAt}`;
}
