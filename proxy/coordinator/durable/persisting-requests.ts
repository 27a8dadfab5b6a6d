/**
 * Requests of the machine that persists epochs (persisting.ts): each function here enters the
 * state that waits for the answer. PURE.
 */
import type { EpochManifest } from '../../../shadow/index.ts';
import type { Failure } from '../../failure/failure.ts';
import type { DurableRequest } from '../../protocol/agent.ts';
import { identityOf, tooOld, without } from './durable-list.ts';
import {
  CARRYING_OVER,
  CLEARING,
  LOOKING_AGAIN,
  type Memory,
  PERSISTING,
  type Persisting,
  type PersistingAction,
  type PersistingStep,
  type QueuedTurn,
  RETAINING,
  RETIRING,
  type Turn,
} from './persisting-state.ts';

/** Asks the agent for something; `state` waits for the answer. */
export function ask(now: Persisting, state: number, request: DurableRequest): PersistingStep {
  return { persisting: { ...now, state }, actions: [{ type: 'ask', request }] };
}

/** Reads what is in memory; `state` waits for the answer. */
export function readMemory(now: Persisting, state: number): PersistingStep {
  return { persisting: { ...now, state }, actions: [{ type: 'read-memory' }] };
}

/** Brings the shadows of an epoch to disk. */
export function persist(now: Persisting, epoch: EpochManifest): PersistingStep {
  const persisting: Persisting = { ...now, state: PERSISTING, epoch };
  return { persisting, actions: [{ type: 'persist', epoch }] };
}

/** Removes one epoch from disk; it is not offered from now on. */
export function retire(now: Persisting, epoch: number): PersistingStep {
  const list = without(now.list, [epoch]);
  return ask({ ...now, list }, RETIRING, { type: 'retire', epochs: [epoch] });
}

/** Carries pins over, one after the other; then retains. */
export function carryOver(now: Persisting): PersistingStep {
  const [epoch, ...pinning] = now.pinning;
  if (epoch === undefined) return retain(now);
  return ask({ ...now, pinning }, CARRYING_OVER, { type: 'pin', epoch, pinned: true });
}

/** Removes what is too old, or what ended attempts have left. */
function retain(now: Persisting): PersistingStep {
  const retiring = tooOld(now.list, now.keep, now.pinnedInMemory);
  if (retiring.length === 0) return ask({ ...now, retiring }, RETAINING, { type: 'collect' });
  const list = without(now.list, retiring);
  return ask({ ...now, list, retiring }, RETAINING, { type: 'retire', epochs: retiring });
}

/** Removes what an attempt has left: it must not keep a disk full. */
export function clear(now: Persisting, pending: Failure): PersistingStep {
  return ask({ ...now, pending }, CLEARING, { type: 'collect' });
}

/** Looks after a removal that failed; `pending` is told then. */
export function lookAgain(now: Persisting, pending: Failure): PersistingStep {
  return ask({ ...now, pending }, LOOKING_AGAIN, { type: 'look' });
}

/** Gives up an epoch that cannot be read, unless it has been retired or folded meanwhile. */
export function doubt(now: Persisting, { epochs }: Memory): PersistingStep {
  const { epoch, pending } = now;
  const isSame = (one: EpochManifest) =>
    epoch !== undefined && identityOf(one) === identityOf(epoch) && one.round === epoch.round;
  if (epoch === undefined || pending === undefined || !epochs.some(isSame)) return unchanged(now);
  const failure = { where: `persist epoch ${epoch.epoch}`, ...pending };
  const hopeless = new Map(now.hopeless).set(identityOf(epoch), failure);
  return {
    persisting: { ...now, hopeless },
    actions: [{ type: 'note', note: { what: 'hopeless', failure } }],
  };
}

/** Notes that the epoch is listed and wanted. */
export function confirmed(now: Persisting): PersistingStep {
  const { epoch } = now;
  const note = epoch && ({ type: 'note', note: { what: 'persisted', epoch } } as const);
  return { persisting: { ...now, failure: undefined }, actions: note ? [note] : [] };
}

/** Puts actions before those of a step. */
export function after(first: readonly PersistingAction[], then: PersistingStep): PersistingStep {
  return { persisting: then.persisting, actions: [...first, ...then.actions] };
}

/** Returns a state as it is, without actions. */
export function unchanged(persisting: Persisting): PersistingStep {
  return { persisting, actions: [] };
}

/** Changes one of the turns. */
export function change(
  turns: readonly QueuedTurn[],
  id: number,
  changes: Partial<Pick<QueuedTurn, 'late' | 'abandoned'>>,
): QueuedTurn[] {
  return turns.map((turn) => (turn.id === id ? { ...turn, ...changes } : turn));
}

/** Tells whether the background has to stop, or to leave the disk to a turn. */
export function hasToYield({ stopping, turns }: Persisting): boolean {
  return stopping || turns.length > 0;
}

/** Tells whether the turn that is served is late: its caller, such as a round, waits no more. */
export function isLate(now: Persisting): boolean {
  return now.turns[0]?.late !== undefined;
}

/** Adds where a failure arose, unless it says so itself. */
export function located(failure: Failure): Failure {
  return { where: 'persist', ...failure };
}

/** Returns what changes when a turn fails: a round aborts then, and its epoch becomes unwanted. */
export function failedTurn(
  { failure, unwanted }: Persisting,
  { want }: Turn,
  told: Failure,
): Pick<Persisting, 'failure' | 'unwanted'> {
  if (want.kind !== 'commit') return { failure, unwanted };
  return { failure: located(told), unwanted: new Set(unwanted).add(identityOf(want.epoch)) };
}
