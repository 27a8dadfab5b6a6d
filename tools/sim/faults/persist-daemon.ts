/**
 * A daemon as far as epochs on disk are concerned: a second enactor of the machine that persists
 * them (proxy/coordinator/durable/persisting.ts), beside persister.ts. When it dies, all it knew is
 * gone.
 */
import { step } from '../../../proxy/coordinator/durable/persisting.ts';
import {
  GRACE_MS,
  lingersSinceMs,
  newPersisting,
  type Persisting,
  type PersistingAction,
  type PersistingEvent,
  type Want,
} from '../../../proxy/coordinator/durable/persisting-state.ts';
import type { Failure } from '../../../proxy/failure/failure.ts';
import type { DurableRequest } from '../../../proxy/protocol/agent.ts';
import type { EpochManifest } from '../../../shadow/index.ts';
import { failure, type ModelledDurableProcess } from './persist-disk.ts';
import type { PersistWorld } from './persist-world.ts';
import { ModelledProcess } from './process.ts';

const READ_MS = 0.5;
/** Allowance for late timers, and for the daemon's own work. */
const SLACK_MS = 50;
const START_LIMIT_MS = 3_000;
export const COMMIT_LIMIT_MS = 20_000;
export const REMOVE_LIMIT_MS = 30_000;

type Settled = (failure: Failure | undefined) => void;

export class PersistDaemon {
  readonly process: ModelledProcess;
  readonly #world: PersistWorld;
  #machine: Persisting;
  #nextTurn = 1;
  readonly #callers = new Map<number, Settled>();
  readonly #timers = new Map<number | 'retry', () => void>();
  #job: ModelledDurableProcess | undefined;
  #list: ModelledDurableProcess | undefined;
  /** The keeper of a daemon that died, if it is blocked on the disk: it has the lock. */
  #lockedBy: ModelledDurableProcess | undefined;
  #isStarted = false;

  constructor(world: PersistWorld) {
    this.#world = world;
    this.process = new ModelledProcess(world.events, world.random);
    this.#machine = newPersisting(world.plan.keep);
  }

  /** Tells whether rounds and operators are served. */
  get isReady(): boolean {
    return this.process.isAlive && this.#isStarted;
  }

  get machine(): Persisting {
    return this.#machine;
  }

  /** Tells whether what would wait for the disk is refused. */
  get isSilent(): boolean {
    return lingersSinceMs(this.#machine) !== undefined || this.#world.disk.silentMs() !== undefined;
  }

  start(): void {
    this.process.start();
    this.#machine = newPersisting(this.#world.plan.keep);
    this.turn({ kind: 'look' }, START_LIMIT_MS, 'E_DURABLE_SILENT', () => {
      this.#isStarted = true;
    });
  }

  die(): void {
    this.process.die();
    this.#isStarted = false;
    this.#callers.clear();
    this.#timers.clear();
    this.#job?.kill();
    this.#list?.kill();
    if (this.#list?.isOver === false) this.#lockedBy = this.#list;
    this.#job = undefined;
    this.#list = undefined;
  }

  /** Ends all processes at once, as the power is cut. */
  vanish(): void {
    this.die();
    this.#lockedBy = undefined;
  }

  killJob(): void {
    this.#job?.kill();
  }

  killList(): void {
    this.#list?.kill();
  }

  wake(): void {
    this.#handle({ type: 'wake' });
  }

  /** Has the disk do something, in turn. */
  turn(want: Want, limitMs: number, slow: string, settled: Settled): void {
    const { events, promises } = this.#world;
    const id = this.#nextTurn++;
    const askedAtMs = events.nowMs;
    this.#callers.set(id, (outcome) => {
      const ms = events.nowMs - askedAtMs;
      promises.waited(`a turn to ${want.kind}`, ms, limitMs + GRACE_MS + SLACK_MS);
      settled(outcome);
    });
    // One that is never told is found, too.
    this.process.after(limitMs + GRACE_MS + 2 * SLACK_MS, () => {
      if (!this.#callers.delete(id)) return;
      promises.waited(`a turn to ${want.kind}`, events.nowMs - askedAtMs, limitMs);
    });
    this.#handle({ type: 'turn', turn: { id, want, limitMs, slow: failure(slow), askedAtMs } });
  }

  #handle(event: PersistingEvent): void {
    const before = this.#machine.state;
    const { persisting, actions } = step(this.#machine, event);
    this.#machine = persisting;
    if (persisting.state !== before) this.#world.onState(persisting.state);
    // The daemon may have died of that.
    if (!this.process.isAlive) return;
    for (const action of actions) this.#enact(action);
  }

  #enact(action: PersistingAction): void {
    const { broken, promises } = this.#world;
    switch (action.type) {
      case 'ask':
        this.#ask(action.request);
        break;
      case 'read-memory':
        this.process.after(READ_MS, () => {
          this.#handle({ type: 'memory', memory: this.#world.memory() });
        });
        break;
      case 'persist':
        this.#persist(action.epoch);
        break;
      case 'end-persist':
        this.#job?.kill();
        break;
      case 'arm-retry':
        if (broken !== 'no-retry') this.#arm('retry', action.ms, { type: 'retry' });
        break;
      case 'disarm-retry':
        this.#timers.get('retry')?.();
        break;
      case 'arm-limit':
        if (broken === 'wait-for-hung') break;
        this.#arm(action.turn, action.ms, { type: 'late', turn: action.turn });
        break;
      case 'arm-grace':
        this.#arm(action.turn, action.ms, { type: 'abandon', turn: action.turn });
        break;
      case 'settle': {
        const settled = this.#callers.get(action.turn);
        this.#callers.delete(action.turn);
        settled?.(action.failure);
        break;
      }
      case 'note':
        this.#world.tell(`persister: ${action.note.what}`);
        if (action.note.what === 'persisted') promises.look();
        if (action.note.what === 'hopeless') this.#world.onGivenUp(action.note.failure);
        break;
    }
  }

  #arm(timer: number | 'retry', ms: number, event: PersistingEvent): void {
    this.#timers.get(timer)?.();
    this.#timers.set(
      timer,
      this.process.after(ms, () => this.#handle(event)),
    );
  }

  #ask(asked: DurableRequest): void {
    const { disk, broken, promises } = this.#world;
    const isKept = broken === 'keep-removed' && asked.type === 'retire';
    const request: DurableRequest = isKept ? { type: 'look' } : asked;
    this.#world.tell(`disk ◀ ${request.type}`);
    promises.asked(this.#job?.isOver === false);
    if (this.#lockedBy?.isOver === false) {
      const busy = failure('E_DURABLE_BUSY');
      this.process.after(READ_MS, () => this.#handle({ type: 'failed', failure: busy }));
      return;
    }
    this.#list = disk.run(disk.answer(request), (failed) => {
      this.#hear(failed === undefined ? { type: 'listed', list: disk.list() } : fail(failed));
    });
  }

  #persist(epoch: EpochManifest): void {
    const { disk, broken } = this.#world;
    this.#world.tell(`job ◀ epoch ${epoch.epoch}`);
    if (broken === 'list-first') {
      this.#hear({ type: 'persisted' });
      return;
    }
    this.#job = disk.run(disk.persist(epoch, this.#world.sourceOf(epoch)), (failed) => {
      this.#hear(failed === undefined ? { type: 'persisted' } : fail(failed));
    });
  }

  /** Hears of what has ended, if it is still there. */
  #hear(event: PersistingEvent): void {
    this.process.after(0, () => this.#handle(event));
  }
}

function fail(failed: Failure): PersistingEvent {
  return { type: 'failed', failure: failed };
}
