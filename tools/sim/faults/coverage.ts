/**
 * Notes which cells of the state × event tables were reached. The tables come from the code: its
 * states by name, its events by type (a type that is missing here does not compile).
 */

import type { MemberMilestone } from '../../../proxy/coordinator/rounds/round.ts';
import {
  ROUND_STATE_NAMES,
  type Round,
  type RoundEvent,
} from '../../../proxy/coordinator/rounds/round.ts';
import {
  type Session,
  type SessionEvent,
  STATE_NAMES,
} from '../../../proxy/member/capture/session.ts';

const SESSION_EVENTS: Record<SessionEvent['type'], true> = {
  prepare: true,
  open: true,
  start: true,
  stop: true,
  barrier: true,
  commit: true,
  abort: true,
  admitted: true,
  streaming: true,
  'vm-stopped': true,
  drained: true,
  'vm-resumed': true,
  sealed: true,
  undone: true,
  failed: true,
  deadline: true,
  orphaned: true,
};

const REPORTS: Record<MemberMilestone, true> = {
  admitted: true,
  live: true,
  stopped: true,
  drained: true,
  resumed: true,
  sealed: true,
  failed: true,
  aborted: true,
  gone: true,
};

const ROUND_EVENTS: Record<Exclude<RoundEvent['type'], 'report'>, true> = {
  end: true,
  abort: true,
  published: true,
  'publish-failed': true,
};

type Row = Readonly<Record<string, string>>;

/** The name of each cell, by state and event: made once, for each is counted many times. */
const SESSION_CELLS = STATE_NAMES.map((state) =>
  rowOf(`member ${state}`, Object.keys(SESSION_EVENTS)),
);
const ROUND_CELLS = ROUND_STATE_NAMES.map((state) =>
  rowOf(`round ${state}`, [...Object.keys(ROUND_EVENTS), ...Object.keys(REPORTS)]),
);
const LINES = [...SESSION_CELLS, ...ROUND_CELLS].flatMap((row) => Object.values(row));

function rowOf(state: string, events: readonly string[]): Row {
  return Object.fromEntries(events.map((event) => [event, `${state} × ${event}`]));
}

export function sessionCell({ state }: Session, { type }: SessionEvent): string {
  return SESSION_CELLS[state]?.[type] ?? '';
}

export function roundCell({ state }: Round, event: RoundEvent): string {
  return ROUND_CELLS[state]?.[event.type === 'report' ? event.report : event.type] ?? '';
}

export class Coverage {
  readonly #reached = new Map<string, number>();

  session(session: Session, event: SessionEvent): void {
    this.#count(sessionCell(session, event));
  }

  round(round: Round, event: RoundEvent): void {
    this.#count(roundCell(round, event));
  }

  add(cells: Readonly<Record<string, number>>): void {
    for (const [cell, times] of Object.entries(cells)) this.#count(cell, times);
  }

  get cells(): Record<string, number> {
    return Object.fromEntries(this.#reached);
  }

  get reached(): number {
    return this.#reached.size;
  }

  get total(): number {
    return LINES.length;
  }

  /** Cells nothing has come to. */
  get missed(): string[] {
    return LINES.filter((line) => !this.#reached.has(line));
  }

  #count(cell: string, times = 1): void {
    this.#reached.set(cell, (this.#reached.get(cell) ?? 0) + times);
  }
}
