/**
 * One round of one cluster. PURE: `step(round, event)` says what comes next; the enactor
 * (round-runner.ts) sends the commands, publishes the manifest and keeps the clock.
 *
 *   ADMITTING ──all admitted──▶ OPENING ──all live──▶ LIVE ──end, or one stopped──▶ STOPPING
 *       │                          │                   │                               │
 *       │                          │                   │                          all stopped
 *       ▼                          ▼                   ▼                               ▼
 *   ABORTING ◀──── failed, gone or abort, from any state before COMMITTING ──────── DRAINING
 *       │                                                                              │
 *   all aborted or gone                                                           all sealed
 *       ▼                                                                              ▼
 *   ABORTED ◀────────── publishing failed (by way of ABORTING) ────────────────── COMMITTING
 *                                                                                      │
 *                                                                COMMITTED ◀─ published┘
 *
 * Promises kept here:
 *  - `barrier` is sent only when every member has reported that it stopped: that makes the cut.
 *  - `publish` is asked for only when every member has sealed; once asked for, nothing but its
 *    failure can abort the round.
 *  - After `failed` or `gone`, every other member is told to abort, and the round ends only when
 *    each has confirmed that its VM runs (`aborted`) or is gone.
 */

import type { Failure } from '../../failure/failure.ts';
import type { MemberMilestone } from '../../protocol/agent.ts';
import { Phases } from './phases.ts';

export const ADMITTING = 0;
export const OPENING = 1;
export const LIVE = 2;
export const STOPPING = 3;
export const DRAINING = 4;
export const COMMITTING = 5;
export const COMMITTED = 6;
export const ABORTING = 7;
export const ABORTED = 8;

export const ROUND_STATE_NAMES = [
  'admitting',
  'opening',
  'live',
  'stopping',
  'draining',
  'committing',
  'committed',
  'aborting',
  'aborted',
] as const;

export type MemberPhase =
  | 'preparing'
  | 'admitted'
  | 'opening'
  | 'live'
  | 'stopping'
  | 'stopped'
  | 'resumed'
  | 'sealed'
  /** Sealed, and its proxy is gone since: its shadow is whole, and takes no more commands. */
  | 'left'
  | 'aborting'
  | 'aborted'
  | 'gone';

export type MemberCommand = 'prepare' | 'open' | 'start' | 'stop' | 'barrier' | 'commit' | 'abort';

export type { MemberMilestone };

export interface Round {
  readonly state: number;
  readonly members: Phases<MemberPhase>;
  /** The reason the live phase ended, in words. */
  readonly endReason: string | undefined;
  /** The first thing that went wrong; it is what the operator is told. */
  readonly failure: Failure | undefined;
}

export type RoundEvent =
  | {
      readonly type: 'report';
      readonly member: string;
      readonly report: MemberMilestone;
      readonly failure?: Failure;
    }
  /** The global end condition fired. */
  | { readonly type: 'end'; readonly reason: string }
  | { readonly type: 'abort'; readonly failure: Failure }
  | { readonly type: 'published' }
  | { readonly type: 'publish-failed'; readonly failure: Failure };

export type RoundAction =
  | { readonly type: 'command'; readonly member: string; readonly command: MemberCommand }
  | { readonly type: 'publish' }
  | { readonly type: 'done' };

export interface RoundStep {
  readonly round: Round;
  readonly actions: readonly RoundAction[];
}

/** Starts a round: every member is asked to prepare. */
export function begin(members: readonly string[]): RoundStep {
  const phases = new Phases<MemberPhase>(members.map((name) => [name, 'preparing']));
  const round = { state: ADMITTING, members: phases, endReason: undefined, failure: undefined };
  return { round, actions: commandAll(round, 'prepare') };
}

export function isOver(round: Round): boolean {
  return round.state === COMMITTED || round.state === ABORTED;
}

/** Tells whether the round will commit no epoch. */
export function isAborting(round: Round): boolean {
  return round.state === ABORTING || round.state === ABORTED;
}

/**
 * Advances a round. An event that means nothing in a state changes nothing. The round that is given
 * is used up: its phases are updated in place, for a copy at every report would cost N² for N
 * members.
 */
export function step(round: Round, event: RoundEvent): RoundStep {
  if (isOver(round)) return { round, actions: [] };
  switch (event.type) {
    case 'report':
      return onReport(round, event.member, event.report, event.failure);
    case 'end':
      return round.state === LIVE ? endLivePhase(round, event.reason) : unchanged(round);
    case 'abort':
      return round.state < COMMITTING ? abort(round, event.failure) : unchanged(round);
    case 'published':
      return round.state === COMMITTING ? commit(round) : unchanged(round);
    case 'publish-failed':
      return round.state === COMMITTING ? abort(round, event.failure) : unchanged(round);
  }
}

function onReport(
  round: Round,
  member: string,
  report: MemberMilestone,
  failure: Failure | undefined,
): RoundStep {
  const phase = round.members.get(member);
  if (phase === undefined || phase === 'gone' || phase === 'left') return unchanged(round);
  switch (report) {
    case 'failed':
    case 'gone':
      return lose(round, member, report, failure);
    case 'aborted':
      return onAborted(round, member);
    case 'drained':
      return unchanged(round);
    default:
      if (!DUE[report].includes(round.state)) return unchanged(round);
      return report === 'stopped'
        ? onStopped(withPhase(round, member, 'stopped'), member)
        : whenAllReached(withPhase(round, member, report));
  }
}

/** States in which a member's progress means something: it follows from a command. */
const DUE: Readonly<Record<Progress, readonly number[]>> = {
  admitted: [ADMITTING],
  live: [OPENING],
  // By itself, if QEMU has switched over.
  stopped: [OPENING, LIVE, STOPPING],
  resumed: [DRAINING],
  sealed: [DRAINING],
};

type Progress = Exclude<MemberMilestone, 'failed' | 'gone' | 'aborted' | 'drained'>;

/** Ends the live phase of all if a member stopped by itself: it must not wait stopped alone. */
function onStopped(round: Round, member: string): RoundStep {
  if (round.state === LIVE) return endLivePhase(round, `${member} switched over by itself`);
  return whenAllReached(round);
}

function whenAllReached(round: Round): RoundStep {
  switch (round.state) {
    case ADMITTING:
      if (round.members.all('admitted')) return advance(round, OPENING, 'opening', 'open');
      break;
    case OPENING:
      if (round.members.all('live', 'stopped')) return startLivePhase(round);
      break;
    case STOPPING:
      if (round.members.all('stopped')) {
        return { round: { ...round, state: DRAINING }, actions: commandAll(round, 'barrier') };
      }
      break;
    case DRAINING:
      if (round.members.all('sealed', 'left')) {
        return { round: { ...round, state: COMMITTING }, actions: [{ type: 'publish' }] };
      }
      break;
  }
  return unchanged(round);
}

function startLivePhase(round: Round): RoundStep {
  const live = { ...round, state: LIVE };
  const actions = commandAll(live, 'start', 'live');
  const [early] = round.members.in('stopped');
  if (early === undefined) return { round: live, actions };
  const ended = endLivePhase(live, `${early} switched over by itself`);
  return { round: ended.round, actions: [...actions, ...ended.actions] };
}

function endLivePhase(round: Round, endReason: string): RoundStep {
  const actions = commandAll(round, 'stop', 'live');
  move(round, (phase) => (phase === 'live' ? 'stopping' : phase));
  const ended = whenAllReached({ ...round, state: STOPPING, endReason });
  return { round: ended.round, actions: [...actions, ...ended.actions] };
}

function commit(round: Round): RoundStep {
  const actions = [...commandAll(round, 'commit', 'sealed'), { type: 'done' } as const];
  return { round: { ...round, state: COMMITTED }, actions };
}

/** Loses a member. A proxy that has sealed costs nothing: its shadow is whole. */
function lose(
  round: Round,
  member: string,
  how: 'failed' | 'gone',
  failure: Failure | undefined,
): RoundStep {
  const sealed = round.members.get(member) === 'sealed';
  if (sealed && round.state <= COMMITTING) {
    return how === 'gone' ? whenAllReached(withPhase(round, member, 'left')) : unchanged(round);
  }
  const phase = how === 'gone' ? 'gone' : 'aborting';
  const cause = failure ?? { code: 'E_MEMBER_GONE', message: `${member} is gone`, member };
  return abort(withPhase(round, member, phase), cause);
}

/** Takes `aborted`, also of a member that undid by itself: after its deadline, or orphaned. */
function onAborted(round: Round, member: string): RoundStep {
  const next = withPhase(round, member, 'aborted');
  if (round.state === ABORTING) return endAbort(next);
  if (round.state >= COMMITTING) return unchanged(round);
  const message = `${member} left the round by itself`;
  return abort(next, { code: 'E_MEMBER_ABORTED', message, member });
}

function abort(round: Round, failure: Failure): RoundStep {
  if (round.state === ABORTING) return endAbort(round);
  const over = new Set<MemberPhase>(['aborted', 'gone', 'left', 'aborting']);
  const actions = [...round.members]
    .filter(([, phase]) => !over.has(phase))
    .map(([member]) => ({ type: 'command', member, command: 'abort' }) as const);
  move(round, (phase) => (over.has(phase) ? phase : 'aborting'));
  const ended = endAbort({ ...round, state: ABORTING, failure });
  return { round: ended.round, actions: [...actions, ...ended.actions] };
}

function endAbort(round: Round): RoundStep {
  if (!round.members.all('aborted', 'gone', 'left')) return unchanged(round);
  return { round: { ...round, state: ABORTED }, actions: [{ type: 'done' }] };
}

function advance(
  round: Round,
  state: number,
  phase: MemberPhase,
  command: MemberCommand,
): RoundStep {
  move(round, () => phase);
  return { round: { ...round, state }, actions: commandAll(round, command) };
}

function commandAll(round: Round, command: MemberCommand, only?: MemberPhase): RoundAction[] {
  const names = only === undefined ? round.members.names() : round.members.in(only);
  return names.map((member) => ({ type: 'command', member, command }));
}

function withPhase(round: Round, member: string, phase: MemberPhase): Round {
  round.members.set(member, phase);
  return round;
}

function move(round: Round, change: (phase: MemberPhase) => MemberPhase): void {
  for (const [member, phase] of round.members) round.members.set(member, change(phase));
}

function unchanged(round: Round): RoundStep {
  return { round, actions: [] };
}
