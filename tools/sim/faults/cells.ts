/**
 * Finds cells of the state × event tables in which nothing happens, whatever phase the members are
 * in, by trying the machines' own code in every situation of a small cluster. Such a cell cannot
 * break a promise.
 */
import { isDeepStrictEqual } from 'node:util';
import { Phases } from '../../../proxy/coordinator/rounds/phases.ts';
import {
  step as advanceRound,
  type MemberPhase,
  ROUND_STATE_NAMES,
  type RoundEvent,
} from '../../../proxy/coordinator/rounds/round.ts';
import {
  step as advanceSession,
  type SessionEvent,
  STATE_NAMES,
} from '../../../proxy/member/capture/session.ts';
import type { MemberMilestone } from '../../../proxy/protocol/agent.ts';
import { roundCell, sessionCell } from './coverage.ts';

const FAILURE = { code: 'E_TEST', message: 'a failure' };
const PHASES: readonly MemberPhase[] = [
  ...(['preparing', 'admitted', 'opening', 'live', 'stopping', 'stopped'] as const),
  ...(['resumed', 'sealed', 'left', 'aborting', 'aborted', 'gone'] as const),
];
const MEMBER = 'a';
const OTHER = 'b';
const BOTH = [false, true] as const;

/** @param cells of `Coverage`, of either machine */
export function inertCells(cells: readonly string[]): Set<string> {
  const acting = new Set([...actingOfSession(), ...actingOfRound()]);
  return new Set(cells.filter((cell) => !acting.has(cell)));
}

function* actingOfSession(): Generator<string> {
  for (const state of STATE_NAMES.keys()) {
    for (const event of SESSION_EVENTS) {
      for (const [started, barrier, drained, background] of quadruples()) {
        const session = { state, started, barrier, drained, background };
        const after = advanceSession(session, event);
        const isInert = after.actions.length === 0 && isDeepStrictEqual(after.session, session);
        if (!isInert) yield sessionCell(session, event);
      }
    }
  }
}

function* actingOfRound(): Generator<string> {
  for (const state of ROUND_STATE_NAMES.keys()) {
    for (const event of ROUND_EVENTS) {
      for (const phase of PHASES) {
        for (const other of PHASES) {
          const round = () => ({
            state,
            members: new Phases<MemberPhase>([
              [MEMBER, phase],
              [OTHER, other],
            ]),
            endReason: undefined,
            failure: undefined,
          });
          const after = advanceRound(round(), event);
          const isInert =
            after.actions.length === 0 &&
            after.round.state === state &&
            isDeepStrictEqual([...after.round.members], [...round().members]);
          if (!isInert) yield roundCell(round(), event);
        }
      }
    }
  }
}

function* quadruples(): Generator<readonly [boolean, boolean, boolean, boolean]> {
  for (const a of BOTH) {
    for (const b of BOTH) for (const c of BOTH) for (const d of BOTH) yield [a, b, c, d];
  }
}

const SESSION_EVENTS: readonly SessionEvent[] = [
  ...(['prepare', 'open', 'start', 'stop', 'barrier', 'commit', 'abort'] as const).map((type) => ({
    type,
  })),
  { type: 'admitted', background: false },
  { type: 'admitted', background: true },
  ...(['streaming', 'vm-stopped', 'drained', 'vm-resumed', 'sealed', 'undone'] as const).map(
    (type) => ({ type }),
  ),
  { type: 'failed', failure: FAILURE },
  { type: 'deadline' },
  { type: 'orphaned' },
];

const REPORTS: readonly MemberMilestone[] = [
  ...(['admitted', 'live', 'stopped', 'drained', 'resumed'] as const),
  ...(['sealed', 'failed', 'aborted', 'gone'] as const),
];

const ROUND_EVENTS: readonly RoundEvent[] = [
  { type: 'end', reason: 'a reason' },
  { type: 'abort', failure: FAILURE },
  { type: 'published' },
  { type: 'publish-failed', failure: FAILURE },
  ...REPORTS.map(
    (report) => ({ type: 'report', member: MEMBER, report, failure: FAILURE }) as const,
  ),
];

/** Cells that act, but that the simulation does not reach: why, and which test shows them. */
export const ARGUED: Readonly<Record<string, string>> = {
  'member idle × abort':
    'a proxy in no round has no session: process.ts answers for it, as the session would ' +
    '(session.test.ts, from every state)',
  'member live × drained':
    'the last byte before the news that the VM has stopped: here both come by way of QEMU’s own ' +
    'order (session.test.ts, the drain may end before the stop is known)',
  'member stopping × drained': 'the same, after a stop was asked for',
  'round committing × failed':
    'a sealed member does not fail any more: its session ignores it; its proxy can only be gone ' +
    '(round.test.ts, once publishing has begun)',
  'member resuming × deadline': 'rare: some of a hundred thousand rounds come to it',
  'round committing × aborted':
    'rare: a member is orphaned in the instant in which the epoch is published',
  'round committing × gone': 'rare, as publishing takes no time that a proxy could die in',
};
