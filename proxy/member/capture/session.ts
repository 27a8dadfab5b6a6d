/**
 * One member in one round. PURE: `step(session, event)` says what comes next; capture.ts does
 * it.
 *
 *   command ▶        prepare        open                        stop
 *            IDLE ─────────▶ ADMITTING ─▶ READY ─▶ OPENING ─▶ LIVE ─────▶ STOPPING
 *             ▲                                                 │             │
 *             │                              vm stopped by QEMU └──▶ STOPPED ◀┘ vm stopped
 *             │                                                         │
 *             │                              barrier passed AND drained ▼
 *             ├◀─ commit ── SEALED ◀─ sealed ── SEALING ◀─ resumed ── RESUMING
 *             │
 *             └◀─ undone ── UNDOING ◀─ abort, failed, deadline or orphaned, from any active state
 *
 * A background snapshot is cut in an instant and sent afterwards. There STOPPED is left at the
 * barrier, with the stream still to come, and
 *
 *     RESUMING ── resumed ──▶ SAVING ── drained ──▶ SEALING
 *
 * A member that is LIVE leaves its stream unread until the coordinator's `start`, so that none can
 * converge while another is still opening.
 *
 * Promises kept here:
 *  - A member resumes only when every member has stopped (the barrier) and its own drain is
 *    complete, or its memory is kept as it was (background); or when it undoes the round.
 *  - From the moment a stop is asked for, a deadline runs; when it expires, the member undoes. That
 *    takes a moment, too: it expires when UNDO_SHARE of the time a VM may be stopped is over.
 *  - A sealed shadow is removed only by the coordinator's own `abort`: an orphan keeps it, for the
 *    epoch that names it may have been published the instant before the coordinator died.
 */
import type { Failure } from '../../failure/failure.ts';
import type { SessionMilestone } from '../../protocol/member.ts';

/** The share of round.stopDeadline after which a member undoes; the rest is for resuming its VM. */
export const UNDO_SHARE = 0.8;

export const IDLE = 0;
export const ADMITTING = 1;
export const READY = 2;
export const OPENING = 3;
export const LIVE = 4;
export const STOPPING = 5;
export const STOPPED = 6;
export const RESUMING = 7;
export const SAVING = 8;
export const SEALING = 9;
export const SEALED = 10;
export const UNDOING = 11;

export const STATE_NAMES = [
  'idle',
  'admitting',
  'ready',
  'opening',
  'live',
  'stopping',
  'stopped',
  'resuming',
  'saving',
  'sealing',
  'sealed',
  'undoing',
] as const;

export interface Session {
  readonly state: number;
  /** The live phase has begun. */
  readonly started: boolean;
  /** Every member of the cluster has stopped. */
  readonly barrier: boolean;
  /** This member's stream is complete. */
  readonly drained: boolean;
  /** The stream comes after the cut: the VM resumes without waiting for it. */
  readonly background: boolean;
}

export type SessionEvent =
  // The coordinator's commands
  | { readonly type: 'prepare' }
  | { readonly type: 'open' }
  | { readonly type: 'start' }
  | { readonly type: 'stop' }
  | { readonly type: 'barrier' }
  | { readonly type: 'commit' }
  | { readonly type: 'abort' }
  // What happened to the VM and its stream
  | { readonly type: 'admitted'; readonly background?: boolean }
  | { readonly type: 'streaming' }
  | { readonly type: 'vm-stopped' }
  | { readonly type: 'drained' }
  | { readonly type: 'vm-resumed' }
  | { readonly type: 'sealed' }
  | { readonly type: 'undone' }
  // What must not happen
  | { readonly type: 'failed'; readonly failure: Failure }
  | { readonly type: 'deadline' }
  | { readonly type: 'orphaned' };

/** Orders to the enactor. `report` tells the coordinator. */
export type SessionAction =
  | { readonly type: 'admit' }
  | { readonly type: 'open' }
  | { readonly type: 'start' }
  | { readonly type: 'stop' }
  | { readonly type: 'vote' }
  | { readonly type: 'resume' }
  | { readonly type: 'seal' }
  | { readonly type: 'release' }
  | { readonly type: 'undo'; readonly keepShadow: boolean }
  | { readonly type: 'arm-deadline' }
  | { readonly type: 'disarm-deadline' }
  | { readonly type: 'report'; readonly report: SessionMilestone; readonly failure?: Failure };

export interface SessionStep {
  readonly session: Session;
  readonly actions: readonly SessionAction[];
}

export const NEW_SESSION: Session = {
  state: IDLE,
  started: false,
  barrier: false,
  drained: false,
  background: false,
};

/** Advances a session. An event that means nothing in a state changes nothing. */
export function step(session: Session, event: SessionEvent): SessionStep {
  switch (event.type) {
    case 'failed':
      return fail(session, event.failure);
    case 'deadline':
      return expire(session);
    case 'orphaned':
      return orphan(session);
    case 'abort':
      return abort(session);
    case 'admitted': {
      if (session.state !== ADMITTING) return { session, actions: [] };
      const { background = false } = event;
      return to({ ...session, background, state: READY }, report('admitted'));
    }
    default:
      return advance(session, event.type);
  }
}

type Advance = Exclude<
  SessionEvent['type'],
  'admitted' | 'failed' | 'deadline' | 'orphaned' | 'abort'
>;

function advance(session: Session, type: Advance): SessionStep {
  const { state } = session;
  switch (state) {
    case IDLE:
      if (type === 'prepare') return to({ ...NEW_SESSION, state: ADMITTING }, { type: 'admit' });
      break;
    case READY:
      if (type === 'open') return to({ ...session, state: OPENING }, { type: 'open' });
      break;
    case OPENING:
      if (type === 'streaming') return to({ ...session, state: LIVE }, report('live'));
      break;
    case LIVE:
      if (type === 'start' && !session.started) {
        return to({ ...session, started: true }, { type: 'start' });
      }
      if (type === 'stop') {
        return to({ ...session, state: STOPPING }, { type: 'arm-deadline' }, { type: 'stop' });
      }
      // QEMU converged and switched over by itself: the coordinator must now end all the others.
      if (type === 'vm-stopped') {
        const armed = { type: 'arm-deadline' } as const;
        return resumeWhenDue({ ...session, state: STOPPED }, armed, report('stopped'));
      }
      if (type === 'drained') return drained(session);
      break;
    case STOPPING:
      if (type === 'vm-stopped') {
        return resumeWhenDue({ ...session, state: STOPPED }, report('stopped'));
      }
      if (type === 'drained') return drained(session);
      break;
    case STOPPED:
      if (type === 'barrier') return resumeWhenDue({ ...session, barrier: true });
      if (type === 'drained') return drained(session);
      if (type === 'vm-resumed') return fail(session, RESUMED_EARLY);
      break;
    case RESUMING:
      if (type === 'vm-resumed') return resumed(session);
      if (type === 'drained') return drained(session);
      break;
    case SAVING:
      if (type === 'drained') {
        const saved = { ...session, state: SEALING, drained: true };
        return to(saved, { type: 'vote' }, report('drained'), { type: 'seal' });
      }
      break;
    case SEALING:
      if (type === 'sealed') return to({ ...session, state: SEALED }, report('sealed'));
      break;
    case SEALED:
      if (type === 'commit') return to(NEW_SESSION, { type: 'release' });
      break;
    case UNDOING:
      if (type === 'undone') return to(NEW_SESSION, report('aborted'));
      break;
  }
  return { session, actions: [] };
}

const RESUMED_EARLY: Failure = {
  code: 'E_RESUMED_EARLY',
  message: 'the VM was resumed while it was stopped at the barrier: the cut is lost',
  where: 'barrier',
};

/** Votes at once: the vote commits this member's QEMU to nothing but `cont`. */
function drained(session: Session): SessionStep {
  if (session.drained) return { session, actions: [] };
  return resumeWhenDue({ ...session, drained: true }, { type: 'vote' }, report('drained'));
}

function resumed(session: Session): SessionStep {
  const actions = [{ type: 'disarm-deadline' }, report('resumed')] as const;
  if (!session.drained) return to({ ...session, state: SAVING }, ...actions);
  return to({ ...session, state: SEALING }, ...actions, { type: 'seal' });
}

function resumeWhenDue(session: Session, ...before: readonly SessionAction[]): SessionStep {
  const { state, barrier } = session;
  const due = state === STOPPED && barrier && (session.drained || session.background);
  if (!due) return to(session, ...before);
  return to({ ...session, state: RESUMING }, ...before, { type: 'resume' });
}

/** Undoes. A sealed shadow is whole, whatever happens to its VM: the coordinator alone drops it. */
function fail(session: Session, failure: Failure): SessionStep {
  const deaf = session.state === IDLE || session.state === SEALED || session.state === UNDOING;
  if (deaf) return { session, actions: [] };
  return undo(session, false, { type: 'report', report: 'failed', failure });
}

function abort(session: Session): SessionStep {
  if (session.state === UNDOING) return { session, actions: [] };
  if (session.state === IDLE) return to(session, report('aborted'));
  return undo(session, false);
}

function expire(session: Session): SessionStep {
  const standing =
    session.state === STOPPING || session.state === STOPPED || session.state === RESUMING;
  if (!standing) return { session, actions: [] };
  return fail(session, {
    code: 'E_STOP_DEADLINE',
    message: 'the VM was stopped for longer than the round allows',
    where: STATE_NAMES[session.state] ?? '',
  });
}

function orphan(session: Session): SessionStep {
  if (session.state === IDLE || session.state === UNDOING) return { session, actions: [] };
  return undo(session, session.state === SEALED);
}

function undo(session: Session, keepShadow: boolean, ...before: SessionAction[]): SessionStep {
  const disarm = { type: 'disarm-deadline' } as const;
  return to({ ...session, state: UNDOING }, ...before, disarm, { type: 'undo', keepShadow });
}

function report(name: SessionMilestone): SessionAction {
  return { type: 'report', report: name };
}

function to(session: Session, ...actions: readonly SessionAction[]): SessionStep {
  return { session, actions };
}
