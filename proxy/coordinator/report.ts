/** What a round or a restore cost and why, as data for people and programs. PURE. */
import type { MemberRestored } from '../agent/contract.ts';
import type { Failure } from '../failure.ts';
import type { RoundFacts } from '../member/messages.ts';

export interface MemberReport extends RoundFacts {
  readonly member: string;
  /** STOP to RESUME by QEMU's own clock, milliseconds. */
  readonly downtimeMs: number | undefined;
  /** How much later than the first member this one stopped, milliseconds. */
  readonly stopSkewMs: number | undefined;
}

export interface RoundReport {
  readonly kind: 'round';
  readonly round: string;
  readonly outcome: 'committed' | 'aborted';
  readonly epoch: number | undefined;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly endReason: string | undefined;
  /** For the slowest member, when the live phase ended; undefined if it could not be told. */
  readonly predictedDowntimeMs: number | undefined;
  /** First STOP to last RESUME, milliseconds. */
  readonly clusterDowntimeMs: number | undefined;
  /** First STOP to last STOP, milliseconds. */
  readonly skewMs: number | undefined;
  /** No member resumed before all had stopped, by QEMU's own time stamps. */
  readonly barrierHeld: boolean | undefined;
  readonly streamBytes: number;
  readonly storedBytes: number;
  readonly members: readonly MemberReport[];
  readonly failure: Failure | undefined;
}

export interface RestoreReport {
  readonly kind: 'restore';
  readonly epoch: number;
  readonly durationMs: number;
  /** Checking that the epoch is whole, milliseconds. */
  readonly verifyMs: number;
  /** From the first QEMU started to all loaded and paused, milliseconds. */
  readonly loadMs: number;
  /** First RESUME to last RESUME, milliseconds. */
  readonly skewMs: number;
  readonly killed: readonly string[];
  readonly members: readonly (MemberRestored & { readonly reason: string | undefined })[];
}

export interface RoundSummary {
  readonly round: string;
  readonly epoch: number | undefined;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly endReason: string | undefined;
  readonly predictedDowntimeMs: number | undefined;
  readonly failure: Failure | undefined;
}

export function reportRound(
  summary: RoundSummary,
  facts: ReadonlyMap<string, RoundFacts>,
): RoundReport {
  const all = [...facts.values()];
  const stops = all.flatMap(({ stoppedAtUs }) => stoppedAtUs ?? []);
  const resumes = all.flatMap(({ resumedAtUs }) => resumedAtUs ?? []);
  const whole = stops.length === all.length && resumes.length === all.length && all.length > 0;
  const firstStop = Math.min(...stops);
  const lastStop = Math.max(...stops);
  return {
    kind: 'round',
    ...summary,
    outcome: summary.failure === undefined ? 'committed' : 'aborted',
    clusterDowntimeMs: whole ? milliseconds(Math.max(...resumes) - firstStop) : undefined,
    skewMs: stops.length > 0 ? milliseconds(lastStop - firstStop) : undefined,
    barrierHeld: whole ? Math.min(...resumes) >= lastStop : undefined,
    streamBytes: sum(all, ({ liveBytes = 0, drainBytes = 0 }) => liveBytes + drainBytes),
    storedBytes: sum(all, ({ storedBytes = 0 }) => storedBytes),
    members: [...facts].map(([member, known]) => ({
      member,
      ...known,
      downtimeMs: difference(known.resumedAtUs, known.stoppedAtUs),
      stopSkewMs: difference(known.stoppedAtUs, firstStop),
    })),
  };
}

function difference(later: number | undefined, earlier: number | undefined): number | undefined {
  if (later === undefined || earlier === undefined) return undefined;
  return milliseconds(later - earlier);
}

function milliseconds(microseconds: number): number {
  return microseconds / 1000;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
