/** The outcome of a migration, from what was seen of it. PURE. */
import type { Failure } from '../failure/failure.ts';
import type { ChannelKind } from './classify.ts';
import type { Outcome, ShadowReport } from './report.ts';

export interface End {
  /** Verdict of the destination on the return path: 0 confirms; undefined if it sent none. */
  readonly verdict: number | undefined;
  /** Reason why its connections were reset, if they were. */
  readonly failure: Failure | undefined;
  /** True if the source waits for a verdict. */
  readonly returnPathOpened: boolean;
}

/** Returns the outcome. The destination's verdict counts before the end of the connections. */
export function outcomeOf({ verdict, failure, returnPathOpened }: End): {
  readonly outcome: Outcome;
  readonly failure?: Failure;
} {
  if (verdict === 0) return { outcome: 'completed' };
  if (failure !== undefined) return { outcome: 'failed', failure };
  if (verdict !== undefined) {
    const message = `the destination could not load the VM (status ${verdict})`;
    return { outcome: 'failed', failure: { code: 'E_RELAY_REFUSED', message } };
  }
  if (returnPathOpened) {
    const message = 'it ended before the destination had confirmed it';
    return { outcome: 'failed', failure: { code: 'E_RELAY_CANCELLED', message } };
  }
  return { outcome: 'closed' };
}

/** Returns notes for the report. @param trouble why the stream could not be followed, if so */
export function notesOf(trouble: string | undefined, shadow: ShadowReport | undefined): string[] {
  const notes: string[] = [];
  if (trouble !== undefined) notes.push(`the stream could not be followed: ${trouble}`);
  if (shadow?.kept === false) {
    notes.push(`no shadow was kept (${shadow.failure.code}): ${shadow.failure.message}`);
  }
  return notes;
}

/** Returns why a migration with a connection of this kind leaves no shadow. */
export function unreadable(kind: ChannelKind): Failure {
  const why = {
    main: 'its stream could not be read',
    multifd: 'it came in several connections (--parallel)',
    tls: 'it was encrypted (--tls)',
    other: 'what came is no migration stream, or a postcopy one',
  };
  return { code: 'E_RELAY_SHADOW', message: why[kind] };
}
