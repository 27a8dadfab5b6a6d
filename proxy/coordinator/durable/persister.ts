/**
 * Brings a cluster's epochs to disk, one after the other, and says what is there.
 *
 *     IDLE ──wake──▶ PERSISTING the newest epoch that is only in memory ──▶ … ──none left──▶ IDLE
 *                          │                                                  retain, collect
 *                          └──failed──▶ WAITING, and tried again in its time (or at the next epoch)
 *
 * Whoever asks for something goes before that, for so long as it has to wait (disk-turns.ts). We never touch
 * the disk ourselves: the agent's processes do.
 *
 * An epoch that cannot be read, or whose number another epoch has on disk, is given up: to try again
 * would help nobody. Whatever fails, the epoch in memory stands.
 */
import type { Logger } from 'pino';
import type { PersistProgress } from '../../../shadow/durable/index.ts';
import { type Catalogue, type EpochManifest, pinnedEpochs } from '../../../shadow/index.ts';
import { type Failure, toFailure, UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';
import type { Agent, DurableList, DurableRequest } from '../../protocol/agent.ts';
import type { PersistConfig } from '../../protocol/cluster.ts';
import type { PersistReport, PersistStatus } from '../../protocol/status.ts';
import { DurableTurns, type Turn } from './durable-turns.ts';

const RETRY_MS = 15_000;
const RETRY_MAX_MS = 600_000;
/** How long we wait for the disk when we start, and when we end. */
const LIFE_LIMIT_MS = 3_000;
const REMOVE_LIMIT_MS = 30_000;
const HOPELESS: ReadonlySet<string> = new Set([
  'E_EPOCH_CORRUPT',
  'E_EPOCH_EXISTS',
  'E_MANIFEST_INVALID',
  'E_MANIFEST_VERSION',
]);
const NOTHING: DurableList = {
  epochs: [],
  damaged: [],
  pinned: [],
  nextEpoch: 1,
  doubt: undefined,
};

/** Removed meanwhile, or its round has given it up. */
const UNWANTED = 'E_PERSIST_UNWANTED';
const ENDING: Failure = { code: 'E_DAEMON_ENDING', message: 'the daemon is ending' };

export type PersistingAgent = Pick<Agent, 'persist' | 'endPersist' | 'durable' | 'durableSilentMs'>;

export class Persister {
  readonly #settings: PersistConfig;
  readonly #agent: PersistingAgent;
  readonly #catalogue: Catalogue;
  readonly #log: Logger;
  readonly #hopeless = new Map<string, Failure>();
  /** As of the last look. */
  #view: DurableList = NOTHING;
  #onLook: () => void = () => {};
  #persisting: { epoch: number; progress: PersistProgress } | undefined;
  #failure: Failure | undefined;
  #attempts = 0;
  #retryAt: Date | undefined;
  #retry: NodeJS.Timeout | undefined;
  #last: PersistReport | undefined;
  #working: Promise<void> | undefined;
  /** Since it began to work. */
  #woken = false;
  readonly #turns: DurableTurns;
  readonly #stopping = new AbortController();

  constructor(settings: PersistConfig, agent: PersistingAgent, catalogue: Catalogue, log: Logger) {
    this.#settings = settings;
    this.#agent = agent;
    this.#catalogue = catalogue;
    this.#log = log;
    const use = {
      pause: () => this.#pause(),
      resume: () => this.wake(),
      end: () => agent.endPersist(),
      silentMs: () => agent.durableSilentMs(),
    };
    this.#turns = new DurableTurns(use, log, this.#stopping.signal);
  }

  /** Looks at what is on disk, and takes up what was cut short. A failure is told, and tried again. */
  async start(): Promise<void> {
    const begun = new Date();
    const looked = new Promise<void>((done) => {
      this.#onLook = done;
    });
    this.wake();
    const answered = Promise.race([looked, this.#working]);
    if (!(await settles(answered, LIFE_LIMIT_MS))) this.#turns.linger(begun, answered);
  }

  /** Ends what is under way; what is whole on disk stays. */
  async stop(): Promise<void> {
    this.#stopping.abort(new UmbraError(ENDING));
    clearTimeout(this.#retry);
    this.#agent.endPersist();
    await settles(Promise.resolve(this.#working), LIFE_LIMIT_MS);
  }

  get #stopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  /** Or to wait: somebody else has the disk. */
  get #hasToStop(): boolean {
    return this.#stopped || this.#turns.isWanted;
  }

  get status(): PersistStatus {
    const { directory, mode } = this.#settings;
    const { epoch = 0, progress } = this.#persisting ?? {};
    const share = progress && Math.min(1, progress.doneBytes / Math.max(1, progress.totalBytes));
    return {
      ...{ directory, mode, doubt: this.#view.doubt },
      persisting: share === undefined ? undefined : { epoch, share },
      failure: this.#turns.silence?.failure ?? this.#failure ?? [...this.#hopeless.values()].at(-1),
      retryAt: this.#retryAt?.toISOString(),
      last: this.#last,
    };
  }

  /** What is on disk, as of the last look. */
  get listing(): Pick<DurableList, 'epochs' | 'damaged' | 'pinned'> {
    return this.#view;
  }

  /** The number after the highest that was ever on disk. */
  get nextEpoch(): number {
    return this.#view.nextEpoch;
  }

  /** Its shadows in memory are being read. */
  isPersisting(epoch: number): boolean {
    return this.#persisting?.epoch === epoch;
  }

  /** The epoch on disk; undefined if it is not there. @throws UmbraError if it is damaged */
  find(epoch: number): EpochManifest | undefined {
    const broken = this.#view.damaged.find((one) => one.epoch === epoch);
    if (broken !== undefined) throw new UmbraError(broken.failure);
    return this.#view.epochs.find((one) => one.epoch === epoch);
  }

  /** There may be an epoch to persist. */
  wake(): void {
    this.#woken = true;
    if (this.#working !== undefined || this.#hasToStop) return;
    clearTimeout(this.#retry);
    this.#retryAt = undefined;
    this.#woken = false;
    this.#working = this.#work().finally(() => {
      this.#working = undefined;
      if (this.#woken) this.wake(); // it may have looked for the last time before
    });
  }

  /** @throws UmbraError E_DURABLE_SILENT: who asks the disk now would wait */
  requireAnswer(): void {
    const { silence } = this.#turns;
    if (silence !== undefined) throw silence;
  }

  /**
   * Brings an epoch to disk that is published nowhere yet, and lists it there.
   * @throws UmbraError, and it is not listed; if the disk hangs, not for long after it goes on
   */
  async beforeCommit(epoch: EpochManifest): Promise<void> {
    this.requireAnswer();
    const { timeLimitMs } = this.#settings;
    const bring = async (turn: Turn) => {
      if (this.#stopped) throw new UmbraError(ENDING);
      await this.#look();
      await this.#persist(epoch, async () => !turn.isLate).catch(async (error: unknown) => {
        await this.#onFull(error);
        throw error;
      });
    };
    const message = `the epoch was not on disk after ${timeLimitMs} ms (persist.timeLimit)`;
    try {
      await this.#turns.take(timeLimitMs, bring, { code: 'E_PERSIST_SLOW', message });
    } catch (error) {
      this.#failure = toFailure(error, { where: 'persist' });
      throw error;
    }
  }

  /** Of an epoch that is listed on disk. @throws UmbraError E_DURABLE_SILENT, or what went wrong */
  async pin(epoch: number, pinned: boolean): Promise<void> {
    this.requireAnswer();
    await this.#turns.take(REMOVE_LIMIT_MS, () => this.#ask({ type: 'pin', epoch, pinned }), {
      code: 'E_DURABLE_SILENT',
      message: `the disk did not answer in ${REMOVE_LIMIT_MS} ms`,
    });
  }

  /** Makes an epoch no longer exist on disk. @throws UmbraError E_DURABLE_SILENT, or what went wrong */
  async remove(epoch: number): Promise<void> {
    this.requireAnswer();
    const retire = async () => {
      const { epochs, damaged } = this.#view;
      if (![...epochs, ...damaged].some((one) => one.epoch === epoch)) return;
      await this.#retire([epoch]);
    };
    const message = `the disk did not answer in ${REMOVE_LIMIT_MS} ms`;
    await this.#turns.take(REMOVE_LIMIT_MS, retire, { code: 'E_DURABLE_SILENT', message });
  }

  /** What is under way in the background is ended, and taken up again when it is woken. */
  async #pause(): Promise<void> {
    if (this.#working !== undefined) this.#agent.endPersist();
    await this.#working;
  }

  async #work(): Promise<void> {
    try {
      await this.#look();
      for (;;) {
        const epoch = await this.#nextWanted();
        if (epoch === undefined || this.#hasToStop) break;
        try {
          await this.#persist(epoch, () => this.#isThere(epoch));
        } catch (error) {
          if (this.#hasToStop) return; // it was ended, and is taken up again
          const failure = toFailure(error, { where: `persist epoch ${epoch.epoch}` });
          if (failure.code === UNWANTED) continue;
          if (!HOPELESS.has(failure.code)) throw error;
          // Retired or folded meanwhile, it is not there any more, or is elsewhere: no failure.
          if (!(await this.#isInMemory(epoch))) continue;
          this.#hopeless.set(identityOf(epoch), failure);
          this.#log.error({ failure }, 'an epoch cannot be brought to disk');
        }
      }
      if (!this.#hasToStop) await this.#retain();
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
    await this.#ask({ type: 'collect' }).catch((err: unknown) => {
      this.#log.error({ err }, 'could not clear the disk of an epoch that does not fit');
    });
  }

  /** @param isWanted asked before it is listed, and once more after: what is not is not listed */
  async #persist(manifest: EpochManifest, isWanted: () => Promise<boolean>): Promise<void> {
    const { epoch } = manifest;
    const requireWanted = async () => {
      if (await isWanted()) return;
      throw new UmbraError({ code: UNWANTED, message: `epoch ${epoch} is wanted no more` });
    };
    await requireWanted();
    const startedAt = performance.now();
    this.#persisting = { epoch, progress: { doneBytes: 0, totalBytes: 1 } };
    try {
      const { contentBytes, storedBytes } = await this.#agent.persist(manifest, (progress) => {
        this.#persisting = { epoch, progress };
      });
      await requireWanted();
      const view = await this.#agent.durable({ type: 'publish', epoch: manifest });
      // Someone was told that it is not there: it must not come to be there afterwards.
      if (!(await isWanted())) await this.#retire([epoch]);
      await requireWanted();
      this.#take(view);
      const durationMs = performance.now() - startedAt;
      this.#last = { epoch, durationMs, contentBytes, storedBytes };
      this.#failure = undefined;
      this.#log.info(this.#last, 'epoch persisted');
    } finally {
      this.#persisting = undefined;
    }
  }

  /** The newest first: it is worth the most. Older than what is kept on disk, none is wanted. */
  async #nextWanted(): Promise<EpochManifest | undefined> {
    const { epochs } = await this.#catalogue.list();
    const there = new Set(this.#view.epochs.map(identityOf));
    const oldest = this.#view.epochs.at(-this.#settings.keep)?.epoch ?? 0;
    return epochs
      .slice(-this.#settings.keep)
      .findLast(
        (one) =>
          one.epoch > oldest && !there.has(identityOf(one)) && !this.#hopeless.has(identityOf(one)),
      );
  }

  /** It may be made of other shadows by now. */
  async #isThere(epoch: EpochManifest): Promise<boolean> {
    const { epochs } = await this.#catalogue.list();
    return epochs.some((one) => identityOf(one) === identityOf(epoch));
  }

  async #isInMemory(epoch: EpochManifest): Promise<boolean> {
    const { epochs } = await this.#catalogue.list();
    return epochs.some((one) => identityOf(one) === identityOf(epoch) && one.round === epoch.round);
  }

  async #retain(): Promise<void> {
    const pins = await this.#pins();
    const old = this.#view.epochs
      .slice(0, -this.#settings.keep)
      .map(({ epoch }) => epoch)
      .filter((epoch) => !pins.has(epoch));
    if (old.length > 0) {
      await this.#retire(old);
      this.#log.info({ epochs: old }, 'epochs retired from disk');
    } else await this.#ask({ type: 'collect' });
  }

  /** A pin has to outlive what memory holds, as its epoch does. */
  async #pins(): Promise<ReadonlySet<number>> {
    const inMemory = await pinnedEpochs(this.#catalogue.directory);
    const { epochs, pinned } = this.#view;
    for (const { epoch } of epochs) {
      if (!inMemory.has(epoch) || pinned.includes(epoch)) continue;
      await this.#ask({ type: 'pin', epoch, pinned: true });
    }
    return new Set([...inMemory, ...this.#view.pinned]);
  }

  async #look(): Promise<void> {
    await this.#ask({ type: 'look' });
    this.#onLook();
  }

  /** What goes is not offered meanwhile. Who was to do it may die with it done, or not: then we look again. */
  async #retire(going: readonly number[]): Promise<void> {
    const stays = ({ epoch }: { readonly epoch: number }) => !going.includes(epoch);
    const { epochs, damaged } = this.#view;
    this.#view = {
      ...this.#view,
      epochs: epochs.filter(stays),
      damaged: damaged.filter(stays),
    };
    try {
      await this.#ask({ type: 'retire', epochs: going });
    } catch (error) {
      await this.#look().catch(() => {}); // it is tried again, and told what was in the way first
      throw error;
    }
  }

  async #ask(request: DurableRequest): Promise<void> {
    this.#take(await this.#agent.durable(request));
  }

  #take(view: DurableList): void {
    if (view.doubt !== undefined && this.#view.doubt === undefined) {
      this.#log.warn({ directory: this.#settings.directory }, `persist.to: ${view.doubt}`);
    }
    this.#view = view;
  }

  #fail(error: unknown): void {
    this.#failure = toFailure(error, { where: 'persist' });
    if (this.#hasToStop) return;
    const ms = Math.min(RETRY_MS * 2 ** this.#attempts++, RETRY_MAX_MS);
    this.#retryAt = new Date(Date.now() + ms);
    this.#log.error({ failure: this.#failure, retryMs: ms }, 'could not persist; trying again');
    this.#retry = setTimeout(() => this.wake(), ms);
  }
}

/** An epoch and its copy: the round it names may become another when it is folded. */
function identityOf({ epoch, createdAt }: EpochManifest): string {
  return `${epoch} ${createdAt}`;
}
