/**
 * Work at the disk of persist.to, and its order. PURE: `step(state, event)` says what comes next;
 * the enactor (persister.ts) asks the agent, reads the catalogue and keeps the timers.
 *
 *                ┌─────────────── confirmed, retired, or no longer wanted ──────────────┐
 *                ▼                                                                     │
 *  LOOKING ─▶ CHOOSING ─one is only in memory─▶ PERSISTING ─▶ CHECKING ─▶ LISTING ─▶ CONFIRMING
 *     ▲          │                                  │                                  │
 *     │          │ none left                        └─cannot be read─▶ DOUBTING        └▶ RETIRING
 *     │          ▼
 *    wake    CARRYING_OVER pins ─▶ RETAINING ─▶ IDLE
 *     │
 *  IDLE, WAITING        any step ──failed──▶ (disk full: CLEARING) ──▶ WAITING ──retry──▶ LOOKING
 *
 * A turn is a piece of work that a caller waits for: a look, an epoch that has to be on disk before
 * it is committed, a pin, a removal. Turns have precedence: what is under way in the background
 * ends, turns are served one after the other, and then the background begins again with LOOKING.
 *
 *   turn ──▶ queued ──▶ served ──▶ settled        late: its time is over, what it began is ended
 *              └──late──▶ └──late──▶ abandoned    abandoned: its caller fails, the work lingers
 *
 * A process that is blocked on a hung disk (state D) cannot even be killed. A caller therefore
 * never waits for longer than its limit and GRACE_MS; the blocked work stays behind, and until it
 * ends no other turn is served.
 *
 * Promises kept here:
 *  - One request at a time is under way, whatever it is for.
 *  - An epoch is listed only when all of it is on disk, and stays listed only if it is still
 *    wanted: a background epoch is in memory, the round of a committing epoch still waits for it.
 *  - A turn that commits an epoch succeeds only when the epoch is listed; if it fails, the epoch is
 *    removed again, should it have been listed all the same.
 *  - What failed is tried again, except an epoch that cannot be read or whose number another epoch
 *    has on disk: that one is hopeless. Whatever fails, the epoch in memory stays.
 */
import type { Failure } from '../../failure/failure.ts';
import type { DurableList } from '../../protocol/agent.ts';
import { identityOf, isListed, nextWanted, pinsToCarryOver } from './durable-list.ts';
import {
  after,
  ask,
  carryOver,
  change,
  clear,
  confirmed,
  doubt,
  failedTurn,
  hasToYield,
  isLate,
  located,
  lookAgain,
  persist,
  readMemory,
  retire,
  unchanged,
} from './persisting-requests.ts';
import {
  CARRYING_OVER,
  CHECKING,
  CHOOSING,
  CLEARING,
  CONFIRMING,
  DOUBTING,
  ENDING,
  GRACE_MS,
  IDLE,
  isUnderWay,
  LISTING,
  LOOKING,
  LOOKING_AGAIN,
  type Memory,
  PERSISTING,
  type Persisting,
  type PersistingAction,
  type PersistingEvent,
  type PersistingStep,
  PINNING,
  type QueuedTurn,
  RETAINING,
  RETIRING,
  RETRY_MAX_MS,
  RETRY_MS,
  STOPPED,
  type Turn,
  WAITING,
  type Want,
} from './persisting-state.ts';

const HOPELESS: ReadonlySet<string> = new Set([
  'E_EPOCH_CORRUPT',
  'E_EPOCH_EXISTS',
  'E_MANIFEST_INVALID',
  'E_MANIFEST_VERSION',
  'E_MANIFEST_FEATURE',
]);
/** Advances the machine. An event that means nothing in a state changes nothing. */
export function step(now: Persisting, event: PersistingEvent): PersistingStep {
  switch (event.type) {
    case 'wake':
      return onWake(now);
    case 'retry':
      return now.state === WAITING ? begin(now) : unchanged(now);
    case 'turn':
      return onTurn(now, event.turn);
    case 'late':
      return onLate(now, event.turn);
    case 'abandon':
      return onAbandon(now, event.turn);
    case 'stop':
      return onStop(now);
    case 'listed':
      return onListed(now, event.list);
    case 'memory':
      return onMemory(now, event.memory);
    case 'persisted':
      return now.state === PERSISTING ? onPersisted(now) : unchanged(now);
    case 'failed':
      return onFailed(now, event.failure);
  }
}

// What callers ask for

function onWake(now: Persisting): PersistingStep {
  if (now.stopping) return unchanged(now);
  return isUnderWay(now) ? unchanged({ ...now, woken: true }) : begin(now);
}

function onTurn(now: Persisting, turn: Turn): PersistingStep {
  if (now.stopping) {
    return { persisting: now, actions: [{ type: 'settle', turn: turn.id, failure: ENDING }] };
  }
  const turns = [...now.turns, { ...turn, late: undefined, abandoned: false }];
  const limit = { type: 'arm-limit', turn: turn.id, ms: turn.limitMs } as const;
  if (!isUnderWay(now)) return after([limit], next({ ...now, turns }));
  const ends = now.state === PERSISTING && !now.serving;
  const actions: PersistingAction[] = ends ? [limit, { type: 'end-persist' }] : [limit];
  return { persisting: { ...now, turns }, actions };
}

function onLate(now: Persisting, id: number): PersistingStep {
  const turn = now.turns.find((one) => one.id === id);
  if (turn === undefined || turn.late !== undefined) return unchanged(now);
  const late = now.stopping ? ENDING : turn.slow;
  return expire({ ...now, turns: change(now.turns, id, { late }) }, turn);
}

/** Ends what a turn that is late has begun; what it is told waits for that, for a moment. */
function expire(now: Persisting, turn: QueuedTurn): PersistingStep {
  const hasBegun = now.serving && now.turns[0]?.id === turn.id;
  // A look is never ended: there is nothing to wait for.
  const ms = turn.want.kind === 'look' ? 0 : GRACE_MS;
  const grace = { type: 'arm-grace', turn: turn.id, ms } as const;
  return { persisting: now, actions: hasBegun ? [{ type: 'end-persist' }, grace] : [grace] };
}

function onAbandon(now: Persisting, id: number): PersistingStep {
  const turn = now.turns.find((one) => one.id === id);
  if (turn?.late === undefined || turn.abandoned) return unchanged(now);
  const turns = change(now.turns, id, { abandoned: true });
  return {
    persisting: { ...now, ...failedTurn(now, turn, turn.late), turns },
    actions: [{ type: 'settle', turn: id, failure: turn.late }],
  };
}

/** Ends what is under way; what is whole on disk stays. */
function onStop(now: Persisting): PersistingStep {
  if (now.stopping) return unchanged(now);
  const turns = now.turns.map((turn) => ({ ...turn, late: turn.late ?? ENDING }));
  const stopping: Persisting = { ...now, turns, stopping: true };
  const begun: PersistingAction[] = [{ type: 'disarm-retry' }, { type: 'end-persist' }];
  if (!isUnderWay(now)) return after(begun, next(stopping));
  const graces = now.turns
    .filter(({ late }) => late === undefined)
    .map(({ id }) => ({ type: 'arm-grace', turn: id, ms: GRACE_MS }) as const);
  return { persisting: stopping, actions: [...begun, ...graces] };
}

// Whose turn it is

/** Starts the background anew. */
function begin(now: Persisting): PersistingStep {
  const actions: PersistingAction[] = now.state === WAITING ? [{ type: 'disarm-retry' }] : [];
  return after(actions, ask({ ...now, woken: false, serving: false }, LOOKING, { type: 'look' }));
}

/** Serves the first turn; without one, the background begins. */
function next(now: Persisting): PersistingStep {
  const [turn] = now.turns;
  const cleared: PersistingAction[] = now.state === WAITING ? [{ type: 'disarm-retry' }] : [];
  const free: Persisting = { ...now, state: IDLE, serving: false, epoch: undefined };
  if (turn === undefined) {
    if (now.stopping) return after(cleared, unchanged({ ...free, state: STOPPED }));
    return after(cleared, begin(free));
  }
  const serving: Persisting = { ...free, serving: true };
  // The work before it has left no time.
  if (turn.late !== undefined) return after(cleared, finish(serving, turn.late));
  return after(cleared, serve(serving, turn.want));
}

function serve(now: Persisting, want: Want): PersistingStep {
  switch (want.kind) {
    case 'look':
    case 'commit':
      return ask(now, LOOKING, { type: 'look' });
    case 'pin':
      return ask(now, PINNING, { type: 'pin', epoch: want.epoch, pinned: want.pinned });
    case 'remove':
      return isListed(now.list, want.epoch) ? retire(now, want.epoch) : finish(now, undefined);
  }
}

/** Ends the first turn. @param failure undefined if it has succeeded */
function finish(now: Persisting, failure: Failure | undefined): PersistingStep {
  const [turn, ...turns] = now.turns;
  if (turn === undefined) return next(now);
  const told = failure && (turn.late ?? failure);
  const settle = { type: 'settle', turn: turn.id, failure: told } as const;
  const left: Persisting = {
    ...now,
    ...(told && failedTurn(now, turn, told)),
    turns,
    serving: false,
    epoch: undefined,
  };
  const actions = turn.abandoned ? [] : [settle];
  // The background goes on from a look as if it were its own.
  if (turn.want.kind === 'look' && !hasToYield(left)) {
    if (failure === undefined) return after(actions, readMemory(left, CHOOSING));
    return after(actions, failBackground(left, failure));
  }
  return after(actions, next(left));
}

// Answers

function onListed(now: Persisting, list: DurableList): PersistingStep {
  switch (now.state) {
    case LOOKING:
      return onLooked({ ...now, list });
    case LISTING:
      if (now.serving) return isLate(now) ? takeBack(now) : confirm({ ...now, list });
      return readMemory({ ...now, listing: list }, CONFIRMING);
    case RETIRING:
      return onRetired({ ...now, list });
    case PINNING:
      return finish({ ...now, list }, undefined);
    case CARRYING_OVER:
      return hasToYield(now) ? next({ ...now, list }) : carryOver({ ...now, list });
    case RETAINING:
      return onRetained({ ...now, list });
    case CLEARING:
    case LOOKING_AGAIN:
      return tellPending({ ...now, list });
    default:
      return unchanged(now);
  }
}

function onLooked(now: Persisting): PersistingStep {
  const [turn] = now.turns;
  if (!now.serving) return hasToYield(now) ? next(now) : readMemory(now, CHOOSING);
  if (turn?.want.kind !== 'commit') return finish(now, undefined);
  return turn.late === undefined ? persist(now, turn.want.epoch) : finish(now, turn.late);
}

function onMemory(now: Persisting, memory: Memory): PersistingStep {
  const { epoch } = now;
  const isThere = memory.epochs.some((one) => epoch && identityOf(one) === identityOf(epoch));
  switch (now.state) {
    case CHOOSING:
      return choose(now, memory);
    case CHECKING:
      if (epoch === undefined || !isThere) return choose(now, memory);
      return ask(now, LISTING, { type: 'publish', epoch });
    case CONFIRMING: {
      // A caller was told that the epoch does not exist: it must not come to be there afterwards.
      if (!isThere) return takeBack(now);
      const { persisting, actions } = confirmed({ ...now, list: now.listing ?? now.list });
      return after(actions, choose(persisting, memory));
    }
    case DOUBTING: {
      const { persisting, actions } = doubt(now, memory);
      return after(actions, choose(persisting, memory));
    }
    default:
      return unchanged(now);
  }
}

/** Decides what the background does next. */
function choose(now: Persisting, { epochs, pinned }: Memory): PersistingStep {
  const chosen: Persisting = { ...now, epoch: undefined, listing: undefined, pending: undefined };
  if (hasToYield(now)) return next(chosen);
  const unwanted = now.list.epochs.find((one) => now.unwanted.has(identityOf(one)));
  if (unwanted !== undefined) return retire(chosen, unwanted.epoch);
  const wanted = nextWanted(now.list, epochs, now.keep, now.hopeless);
  if (wanted !== undefined) return persist(chosen, wanted);
  const pinning = pinsToCarryOver(now.list, pinned);
  return carryOver({ ...chosen, pinning, pinnedInMemory: pinned });
}

function onPersisted(now: Persisting): PersistingStep {
  const { epoch } = now;
  if (!now.serving || epoch === undefined) return readMemory(now, CHECKING);
  if (isLate(now)) return finish(now, now.turns[0]?.late);
  return ask(now, LISTING, { type: 'publish', epoch });
}

/** Ends a turn whose epoch is listed in time. */
function confirm(now: Persisting): PersistingStep {
  const { persisting, actions } = confirmed(now);
  return after(actions, finish(persisting, undefined));
}

function takeBack(now: Persisting): PersistingStep {
  return now.epoch === undefined ? next(now) : retire(now, now.epoch.epoch);
}

function onRetired(now: Persisting): PersistingStep {
  if (!now.serving) return readMemory({ ...now, epoch: undefined }, CHOOSING);
  return finish(now, now.turns[0]?.want.kind === 'remove' ? undefined : now.turns[0]?.late);
}

/** Ends a pass of the background: it has done all there was to do. */
function onRetained(now: Persisting): PersistingStep {
  const { retiring } = now;
  const note = { type: 'note', note: { what: 'retired', epochs: retiring } } as const;
  const done: Persisting = { ...now, state: IDLE, failure: undefined, attempts: 0, retiring: [] };
  const more = hasToYield(done) || done.woken ? next(done) : unchanged(done);
  return after(retiring.length > 0 ? [note] : [], more);
}

// Failures

function onFailed(now: Persisting, failure: Failure): PersistingStep {
  switch (now.state) {
    case LOOKING:
      return now.serving ? finish(now, failure) : failBackground(now, failure);
    case PERSISTING:
    case LISTING:
      return failEpoch(now, failure);
    case RETIRING:
      return lookAgain(now, failure);
    case RETAINING:
      return now.retiring.length > 0 ? lookAgain(now, failure) : failBackground(now, failure);
    case PINNING:
      return finish(now, failure);
    case CHOOSING:
    case CHECKING:
    case CONFIRMING:
    case DOUBTING:
    case CARRYING_OVER:
      return failBackground(now, failure);
    case CLEARING:
    case LOOKING_AGAIN:
      return tellPending(now);
    default:
      return unchanged(now);
  }
}

function failEpoch(now: Persisting, failure: Failure): PersistingStep {
  if (now.serving) {
    return isFull(failure) ? clear(now, failure) : finish(now, failure);
  }
  if (hasToYield(now)) return next(now); // it was ended, and is taken up again
  if (!HOPELESS.has(failure.code)) return failBackground(now, failure);
  return readMemory({ ...now, pending: failure }, DOUBTING);
}

function failBackground(now: Persisting, failure: Failure): PersistingStep {
  return isFull(failure) ? clear(now, failure) : awaitRetry(now, failure);
}

function isFull({ code }: Failure): boolean {
  return code === 'E_DURABLE_NO_ROOM';
}

function tellPending(now: Persisting): PersistingStep {
  const { pending } = now;
  const told: Persisting = { ...now, pending: undefined };
  if (now.serving) return finish(told, pending);
  return pending === undefined ? next(told) : awaitRetry(told, pending);
}

function awaitRetry(now: Persisting, cause: Failure): PersistingStep {
  const failure = located(cause);
  const failed: Persisting = { ...now, failure, epoch: undefined, listing: undefined };
  if (hasToYield(failed)) return next(failed);
  const retryMs = Math.min(RETRY_MS * 2 ** now.attempts, RETRY_MAX_MS);
  const waiting: Persisting = { ...failed, state: WAITING, attempts: now.attempts + 1 };
  const actions: PersistingAction[] = [
    { type: 'note', note: { what: 'failed', failure, retryMs } },
    { type: 'arm-retry', ms: retryMs },
  ];
  return after(actions, now.woken ? begin(waiting) : unchanged(waiting));
}
