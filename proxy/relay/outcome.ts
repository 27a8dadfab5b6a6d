/** How a migration ended, from what was seen of it. PURE. */
import type { Failure } from '../failure/failure.ts';
import type { ChannelKind } from './classify.ts';
import type { Outcome, ShadowReport } from './report.ts';

export interface End {
  /** What the destination has said on the return path: 0, all is there; undefined: nothing. */
  readonly verdict: number | undefined;
  /** Why its connections were reset, if they were. */
  readonly failure: Failure | undefined;
  /** The source waits for a verdict. */
  readonly returnPathOpened: boolean;
}

/** What the destination has said counts before how the connections went. */
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
    const message = 'it was ended before the destination had said that all is there';
    return { outcome: 'failed', failure: { code: 'E_RELAY_CANCELLED', message } };
  }
  return { outcome: 'closed' };
}

/** @param trouble why the stream could not be followed, if it could not */
export function notesOf(trouble: string | undefined, shadow: ShadowReport | undefined): string[] {
  const notes: string[] = [];
  if (trouble !== undefined) notes.push(`the stream could not be followed: ${trouble}`);
  if (shadow?.kept === false) {
    notes.push(`no shadow was kept (${shadow.failure.code}): ${shadow.failure.message}`);
  }
  return notes;
}

/** Why there is no shadow of a migration with such a connection. */
export function unreadable(kind: ChannelKind): Failure {
  const why = {
    main: 'its stream could not be read',
    multifd: 'it came in several connections (--parallel)',
    tls: 'it was encrypted (--tls)',
    other: 'what came is no migration stream, or a postcopy one',
  };
  return { code: 'E_RELAY_SHADOW', message: why[kind] };
}
