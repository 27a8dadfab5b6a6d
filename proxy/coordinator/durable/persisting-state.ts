/**
 * The states, events and actions of the machine that persists epochs (persisting.ts). PURE.
 */
import type { EpochManifest } from '../../../shadow/index.ts';
import type { Failure } from '../../failure/failure.ts';
import type { DurableList, DurableRequest } from '../../protocol/agent.ts';
import { NOTHING } from './durable-list.ts';

export const IDLE = 0;
/** A failed attempt is tried again later. */
export const WAITING = 1;
export const LOOKING = 2;
/** Reads what is in memory. */
export const CHOOSING = 3;
export const PERSISTING = 4;
/** Reads memory: is the epoch still wanted, now that its shadows are on disk? */
export const CHECKING = 5;
export const LISTING = 6;
/** Reads memory: is it still wanted, now that it is listed? */
export const CONFIRMING = 7;
/** Removes one epoch. */
export const RETIRING = 8;
/** Reads memory: can the epoch not be read, or has it only gone? */
export const DOUBTING = 9;
/** Pins on disk what is pinned in memory: a pin has to outlive the memory. */
export const CARRYING_OVER = 10;
/** Removes what is too old, or what ended attempts have left. */
export const RETAINING = 11;
/** Removes what an attempt has left on a full disk. */
export const CLEARING = 12;
/** Looks after a removal that failed: it may have been done or not. */
export const LOOKING_AGAIN = 13;
export const PINNING = 14;
export const STOPPED = 15;

export const PERSISTING_STATE_NAMES = [
  'idle',
  'waiting',
  'looking',
  'choosing',
  'persisting',
  'checking',
  'listing',
  'confirming',
  'retiring',
  'doubting',
  'carrying over',
  'retaining',
  'clearing',
  'looking again',
  'pinning',
  'stopped',
] as const;

export const RETRY_MS = 15_000;
export const RETRY_MAX_MS = 600_000;
/** Time that a killed process may take to be gone. */
export const GRACE_MS = 1_000;

export const ENDING: Failure = { code: 'E_DAEMON_ENDING', message: 'the daemon is ending' };

export type Want =
  | { readonly kind: 'look' }
  /** Persists and lists an epoch that is published nowhere yet. */
  | { readonly kind: 'commit'; readonly epoch: EpochManifest }
  | { readonly kind: 'pin'; readonly epoch: number; readonly pinned: boolean }
  /** Removes an epoch that may be on disk, or on its way there. */
  | { readonly kind: 'remove'; readonly epoch: number };

export interface Turn {
  readonly id: number;
  readonly want: Want;
  readonly limitMs: number;
  /** The failure that the caller gets when its time is over. */
  readonly slow: Failure;
  /** When it was asked for, as the enactor's clock says. */
  readonly askedAtMs: number;
}

export interface QueuedTurn extends Turn {
  /** The failure that its caller has got, or will get soon, because its time is over. */
  readonly late: Failure | undefined;
  /** Its caller has been told; the work lingers. */
  readonly abandoned: boolean;
}

export interface Persisting {
  readonly state: number;
  /** The number of epochs that are kept on disk. */
  readonly keep: number;
  /** As of the last answer. */
  readonly list: DurableList;
  /** Turns that are not done, in the order they were asked for. */
  readonly turns: readonly QueuedTurn[];
  /** The first turn has the disk; else the background has it. */
  readonly serving: boolean;
  /** The epoch whose shadows are read and brought to disk. */
  readonly epoch: EpochManifest | undefined;
  /** The answer to LISTING, which counts once the epoch is confirmed. */
  readonly listing: DurableList | undefined;
  /** The failure that DOUBTING, CLEARING and LOOKING_AGAIN are about. */
  readonly pending: Failure | undefined;
  /**
   * Pins that CARRYING_OVER has yet to ask for, and all pins in memory as CHOOSING has read them.
   */
  readonly pinning: readonly number[];
  readonly pinnedInMemory: readonly number[];
  /** Epochs that RETAINING removes. */
  readonly retiring: readonly number[];
  /** There may be an epoch that the background has not seen. */
  readonly woken: boolean;
  readonly stopping: boolean;
  /** Failed attempts in a row. */
  readonly attempts: number;
  /** Why the last attempt failed; undefined when one has succeeded since. */
  readonly failure: Failure | undefined;
  /**
   * Identities of epochs whose rounds were told that they are not on disk: they must not stay
   * there.
   */
  readonly unwanted: ReadonlySet<string>;
  /** By identity: epochs that cannot be brought to disk. */
  readonly hopeless: ReadonlyMap<string, Failure>;
}

export type PersistingEvent =
  /** There may be an epoch to persist. */
  | { readonly type: 'wake' }
  | { readonly type: 'retry' }
  | { readonly type: 'turn'; readonly turn: Turn }
  /** The limit of a turn has passed. */
  | { readonly type: 'late'; readonly turn: number }
  /** GRACE_MS have passed since. */
  | { readonly type: 'abandon'; readonly turn: number }
  | { readonly type: 'stop' }
  /** Answers to what was asked for. */
  | { readonly type: 'listed'; readonly list: DurableList }
  | { readonly type: 'memory'; readonly memory: Memory }
  | { readonly type: 'persisted' }
  | { readonly type: 'failed'; readonly failure: Failure };

export interface Memory {
  /** Oldest first. */
  readonly epochs: readonly EpochManifest[];
  readonly pinned: readonly number[];
}

export type PersistingAction =
  | { readonly type: 'ask'; readonly request: DurableRequest }
  | { readonly type: 'read-memory' }
  | { readonly type: 'persist'; readonly epoch: EpochManifest }
  /** Ends `persist` at whatever step it is: it fails then, unless it was just done. */
  | { readonly type: 'end-persist' }
  | { readonly type: 'arm-retry'; readonly ms: number }
  | { readonly type: 'disarm-retry' }
  | { readonly type: 'arm-limit'; readonly turn: number; readonly ms: number }
  | { readonly type: 'arm-grace'; readonly turn: number; readonly ms: number }
  /** A turn's caller waits no longer. */
  | { readonly type: 'settle'; readonly turn: number; readonly failure: Failure | undefined }
  | { readonly type: 'note'; readonly note: Note };

export type Note =
  | { readonly what: 'persisted'; readonly epoch: EpochManifest }
  | { readonly what: 'retired'; readonly epochs: readonly number[] }
  | { readonly what: 'hopeless'; readonly failure: Failure }
  | { readonly what: 'failed'; readonly failure: Failure; readonly retryMs: number };

export interface PersistingStep {
  readonly persisting: Persisting;
  readonly actions: readonly PersistingAction[];
}

/** Makes a machine that has not looked yet. */
export function newPersisting(keep: number): Persisting {
  return {
    state: IDLE,
    keep,
    list: NOTHING,
    turns: [],
    serving: false,
    epoch: undefined,
    listing: undefined,
    pending: undefined,
    pinning: [],
    pinnedInMemory: [],
    retiring: [],
    woken: false,
    stopping: false,
    attempts: 0,
    failure: undefined,
    unwanted: new Set(),
    hopeless: new Map(),
  };
}

/** Returns since when work lingers that no caller waits for any more; undefined if none does. */
export function lingersSinceMs({ turns }: Persisting): number | undefined {
  return turns.find(({ abandoned }) => abandoned)?.askedAtMs;
}

/** Tells whether a request is under way: one answer is owed. */
export function isUnderWay({ state }: Persisting): boolean {
  return state !== IDLE && state !== WAITING && state !== STOPPED;
}
