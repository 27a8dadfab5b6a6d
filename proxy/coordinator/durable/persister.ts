/**
 * Enacts the machine that persists epochs (persisting.ts): asks the agent, reads the catalogue,
 * keeps the timers, and lets callers wait for their turns. The coordinator never touches the disk
 * itself, because it might hang: processes of the agent do.
 *
 *     persisting.ts ──ask, persist──▶ agent          callers ──turn──▶ persisting.ts
 *                   ◀──listed, persisted, failed──            ◀──settle──
 */
import type { Logger } from 'pino';
import type { PersistProgress, PersistResult } from '../../../shadow/durable/index.ts';
import { type Catalogue, type EpochManifest, pinnedEpochs } from '../../../shadow/index.ts';
import { type Failure, toFailure, UmbraError } from '../../failure/failure.ts';
import { settles } from '../../failure/settles.ts';
import type { Agent, DurableList } from '../../protocol/agent.ts';
import type { PersistConfig } from '../../protocol/cluster.ts';
import type { PersistReport, PersistStatus } from '../../protocol/status.ts';
import { step } from './persisting.ts';
import {
  isUnderWay,
  lingersSinceMs,
  type Note,
  newPersisting,
  type Persisting,
  type PersistingAction,
  type PersistingEvent,
  type Want,
} from './persisting-state.ts';

/** Limit for a daemon that starts or ends and waits for the disk. */
const LIFE_LIMIT_MS = 3_000;
const REMOVE_LIMIT_MS = 30_000;

export type PersistingAgent = Pick<Agent, 'persist' | 'endPersist' | 'durable' | 'durableSilentMs'>;

/** A caller that waits for its turn. */
interface Caller {
  readonly resolve: () => void;
  readonly reject: (error: UmbraError) => void;
  timer: NodeJS.Timeout | undefined;
}

/** The latest `persist` of the agent. */
interface Attempt {
  readonly startedAt: number;
  progress: PersistProgress;
  result: PersistResult | undefined;
}

export class Persister {
  readonly #settings: PersistConfig;
  readonly #agent: PersistingAgent;
  readonly #catalogue: Catalogue;
  readonly #log: Logger;
  #persisting: Persisting;
  readonly #callers = new Map<number, Caller>();
  #nextTurn = 1;
  #attempt: Attempt = newAttempt();
  #retry: { readonly timer: NodeJS.Timeout; readonly at: Date } | undefined;
  #last: PersistReport | undefined;
  /** Settles when the request that is under way is answered. */
  #answered: Promise<void> = Promise.resolve();

  constructor(settings: PersistConfig, agent: PersistingAgent, catalogue: Catalogue, log: Logger) {
    this.#settings = settings;
    this.#agent = agent;
    this.#catalogue = catalogue;
    this.#log = log;
    this.#persisting = newPersisting(settings.keep);
  }

  /**
   * Looks at what is on disk, for LIFE_LIMIT_MS at most, and then persists in the background. A
   * failure is in `status`, and is tried again.
   */
  async start(): Promise<void> {
    const slow = silent(LIFE_LIMIT_MS);
    await this.#turn({ kind: 'look' }, LIFE_LIMIT_MS, slow).catch(() => {});
  }

  /** Ends what is under way; what is whole on disk stays. */
  async stop(): Promise<void> {
    this.#handle({ type: 'stop' });
    const end = performance.now() + LIFE_LIMIT_MS;
    while (isUnderWay(this.#persisting)) {
      if (!(await settles(this.#answered, end - performance.now()))) return;
    }
  }

  /** Takes up settings that have changed: how many epochs are kept on disk. */
  reconfigured(): void {
    this.#persisting = { ...this.#persisting, keep: this.#settings.keep };
    this.wake();
  }

  get status(): PersistStatus {
    const { directory, mode } = this.#settings;
    const { list, epoch, failure, hopeless } = this.#persisting;
    const { doneBytes, totalBytes } = this.#attempt.progress;
    const share = Math.min(1, doneBytes / Math.max(1, totalBytes));
    return {
      directory,
      mode,
      doubt: list.doubt,
      persisting: epoch && { epoch: epoch.epoch, share },
      failure: this.#silence?.failure ?? failure ?? [...hopeless.values()].at(-1),
      retryAt: this.#retry?.at.toISOString(),
      last: this.#last,
    };
  }

  /** Returns what is on disk, as of the last answer. */
  get listing(): Pick<DurableList, 'epochs' | 'damaged' | 'pinned'> {
    return this.#persisting.list;
  }

  /** Returns the number after the highest that was ever on disk. */
  get nextEpoch(): number {
    return this.#persisting.list.nextEpoch;
  }

  /** Tells whether the shadows of an epoch are being read from memory. */
  isPersisting(epoch: number): boolean {
    return this.#persisting.epoch?.epoch === epoch;
  }

  /** Finds an epoch on disk; undefined if it is not there. @throws UmbraError if it is damaged */
  find(epoch: number): EpochManifest | undefined {
    const { damaged, epochs } = this.#persisting.list;
    const broken = damaged.find((one) => one.epoch === epoch);
    if (broken !== undefined) throw UmbraError.received(broken.failure);
    return epochs.find((one) => one.epoch === epoch);
  }

  /** Has the background look for an epoch to persist. */
  wake(): void {
    this.#handle({ type: 'wake' });
  }

  /** Refuses what would wait for the disk now. @throws UmbraError E_DURABLE_SILENT */
  requireAnswer(): void {
    const silence = this.#silence;
    if (silence !== undefined) throw silence;
  }

  /**
   * Brings an epoch to disk that is published nowhere yet, and lists it there.
   * @throws UmbraError E_DURABLE_SILENT, E_PERSIST_SLOW, or what went wrong: it is not listed then,
   *   or if the disk hangs, no longer once the disk answers
   */
  async beforeCommit(epoch: EpochManifest): Promise<void> {
    this.requireAnswer();
    const { timeLimitMs } = this.#settings;
    const message = `the epoch was not on disk after ${timeLimitMs} ms (persist.timeLimit)`;
    await this.#turn({ kind: 'commit', epoch }, timeLimitMs, { code: 'E_PERSIST_SLOW', message });
  }

  /**
   * Pins an epoch that is listed on disk.
   * @throws UmbraError E_DURABLE_SILENT, or what went wrong
   */
  async pin(epoch: number, pinned: boolean): Promise<void> {
    this.requireAnswer();
    await this.#turn({ kind: 'pin', epoch, pinned }, REMOVE_LIMIT_MS, silent(REMOVE_LIMIT_MS));
  }

  /**
   * Makes an epoch no longer exist on disk.
   * @throws UmbraError E_DURABLE_SILENT, or what went wrong
   */
  async remove(epoch: number): Promise<void> {
    this.requireAnswer();
    await this.#turn({ kind: 'remove', epoch }, REMOVE_LIMIT_MS, silent(REMOVE_LIMIT_MS));
  }

  /** Returns why to refuse what would wait for the disk; undefined while the disk answers. */
  get #silence(): UmbraError | undefined {
    const silentMs = this.#agent.durableSilentMs();
    const lingersSince = lingersSinceMs(this.#persisting);
    const since = silentMs === undefined ? lingersSince : Math.floor(Date.now() - silentMs);
    if (since === undefined) return undefined;
    const at = new Date(since).toISOString();
    const message = `the disk of persist.to has not answered since ${at}`;
    return new UmbraError({ code: 'E_DURABLE_SILENT', message });
  }

  /**
   * Has the disk do something, in turn.
   * @throws UmbraError `slow` after `limitMs`, or what went wrong
   */
  #turn(want: Want, limitMs: number, slow: Failure): Promise<void> {
    const id = this.#nextTurn++;
    return new Promise((resolve, reject) => {
      this.#callers.set(id, { resolve, reject, timer: undefined });
      const turn = { id, want, limitMs, slow, askedAtMs: Date.now() };
      this.#handle({ type: 'turn', turn });
    });
  }

  #handle(event: PersistingEvent): void {
    const { doubt } = this.#persisting.list;
    const { persisting, actions } = step(this.#persisting, event);
    this.#persisting = persisting;
    if (persisting.list.doubt !== undefined && doubt === undefined) {
      const { directory } = this.#settings;
      this.#log.warn({ directory }, `persist.to: ${persisting.list.doubt}`);
    }
    for (const action of actions) this.#enact(action);
  }

  #enact(action: PersistingAction): void {
    switch (action.type) {
      case 'ask':
        this.#answer(async () => {
          return { type: 'listed', list: await this.#agent.durable(action.request) };
        });
        break;
      case 'read-memory':
        this.#answer(() => this.#readMemory());
        break;
      case 'persist':
        this.#answer(() => this.#persist(action.epoch));
        break;
      case 'end-persist':
        this.#agent.endPersist();
        break;
      case 'arm-retry': {
        const timer = setTimeout(() => this.#handle({ type: 'retry' }), action.ms);
        this.#retry = { timer, at: new Date(Date.now() + action.ms) };
        break;
      }
      case 'disarm-retry':
        clearTimeout(this.#retry?.timer);
        this.#retry = undefined;
        break;
      case 'arm-limit':
        this.#arm(action.turn, action.ms, 'late');
        break;
      case 'arm-grace':
        this.#arm(action.turn, action.ms, 'abandon');
        break;
      case 'settle':
        this.#settle(action.turn, action.failure);
        break;
      case 'note':
        this.#note(action.note);
        break;
    }
  }

  /** Runs what the machine has asked for, and gives it the outcome. */
  #answer(work: () => Promise<PersistingEvent>): void {
    this.#answered = work().then(
      (event) => this.#handle(event),
      (error: unknown) => this.#handle({ type: 'failed', failure: toFailure(error, {}) }),
    );
  }

  async #readMemory(): Promise<PersistingEvent> {
    const { epochs } = await this.#catalogue.list();
    const pinned = await pinnedEpochs(this.#catalogue.directory);
    return { type: 'memory', memory: { epochs, pinned: [...pinned] } };
  }

  async #persist(epoch: EpochManifest): Promise<PersistingEvent> {
    const attempt = newAttempt();
    this.#attempt = attempt;
    attempt.result = await this.#agent.persist(epoch, (progress) => {
      attempt.progress = progress;
    });
    return { type: 'persisted' };
  }

  #arm(turn: number, ms: number, type: 'late' | 'abandon'): void {
    const caller = this.#callers.get(turn);
    if (caller === undefined) return;
    clearTimeout(caller.timer);
    caller.timer = setTimeout(() => this.#handle({ type, turn }), ms);
  }

  #settle(turn: number, failure: Failure | undefined): void {
    const caller = this.#callers.get(turn);
    if (caller === undefined) return;
    this.#callers.delete(turn);
    clearTimeout(caller.timer);
    if (failure === undefined) caller.resolve();
    else caller.reject(UmbraError.received(failure));
  }

  #note(note: Note): void {
    switch (note.what) {
      case 'persisted': {
        const { startedAt, result } = this.#attempt;
        if (result === undefined) break;
        const { contentBytes, storedBytes } = result;
        const durationMs = performance.now() - startedAt;
        this.#last = { epoch: note.epoch.epoch, durationMs, contentBytes, storedBytes };
        this.#log.info(this.#last, 'epoch persisted');
        break;
      }
      case 'retired':
        this.#log.info({ epochs: note.epochs }, 'epochs retired from disk');
        break;
      case 'hopeless':
        this.#log.error({ failure: note.failure }, 'an epoch cannot be brought to disk');
        break;
      case 'failed': {
        const { failure, retryMs } = note;
        this.#log.error({ failure, retryMs }, 'could not persist; trying again');
        break;
      }
    }
  }
}

function newAttempt(): Attempt {
  const progress = { doneBytes: 0, totalBytes: 1 };
  return { startedAt: performance.now(), progress, result: undefined };
}

function silent(limitMs: number): Failure {
  return { code: 'E_DURABLE_SILENT', message: `the disk did not answer in ${limitMs} ms` };
}
