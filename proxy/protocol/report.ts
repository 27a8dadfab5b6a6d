/** What a round or a restore cost and why, as data for people and programs. PURE. */

import type { Failure } from '../failure/failure.ts';
import type { MemberRestored } from './agent.ts';
import type { RoundFacts } from './member.ts';
import { type Span, timelineOf } from './timeline.ts';

export interface MemberReport extends Omit<RoundFacts, 'flow'> {
  readonly member: string;
  /** STOP to RESUME by QEMU's own clock, milliseconds. */
  readonly downtimeMs: number | undefined;
  /** How much later than the first member this one stopped, milliseconds. */
  readonly stopSkewMs: number | undefined;
  /** Its downtime as predicted when the live phase ended, milliseconds. */
  readonly predictedDowntimeMs: number | undefined;
  /**
   * Of a background capture, milliseconds: how long its memory was saved while it ran, and from its
   * stop on, how long nobody heard of it.
   */
  readonly savingMs: number | undefined;
  readonly silentMs: number | undefined;
  readonly timeline: readonly Span[];
}

export interface RoundReport {
  readonly kind: 'round';
  readonly round: string;
  readonly outcome: 'committed' | 'aborted';
  readonly epoch: number | undefined;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly endReason: string | undefined;
  /** How the streams shared the time, and what was to end the live phase. */
  readonly policy: string;
  /** Cluster downtime as predicted when the live phase ended; undefined if it could not be. */
  readonly predictedDowntimeMs: number | undefined;
  /** The same before it was corrected by what earlier rounds have taught. */
  readonly rawPredictedDowntimeMs: number | undefined;
  /** |predicted − real| ÷ real. */
  readonly predictionError: number | undefined;
  /** First STOP to last RESUME, milliseconds. */
  readonly clusterDowntimeMs: number | undefined;
  /** First STOP to last STOP, milliseconds. */
  readonly skewMs: number | undefined;
  /** No member resumed before all had stopped, by QEMU's own time stamps. */
  readonly barrierHeld: boolean | undefined;
  readonly streamBytes: number;
  /** While the VMs ran, and after they had stopped. */
  readonly liveBytes: number;
  readonly drainBytes: number;
  readonly repeatedPages: number;
  readonly storedBytes: number;
  readonly members: readonly MemberReport[];
  readonly failure: Failure | undefined;
}

export interface RestoreReport {
  readonly kind: 'restore';
  readonly epoch: number;
  /** From the request until the last VM runs, by QEMU's own word, milliseconds. */
  readonly durationMs: number;
  /** Checking that the epoch is whole, milliseconds. */
  readonly verifyMs: number;
  /** Bringing it from disk, milliseconds; undefined if it was in memory. */
  readonly fetchMs: number | undefined;
  /** From the first QEMU started to all loaded and paused, milliseconds. */
  readonly loadMs: number;
  /** First RESUME to last RESUME, milliseconds. */
  readonly skewMs: number;
  readonly killed: readonly string[];
  readonly members: readonly (MemberRestored & { readonly reason: string | undefined })[];
}

/** What of a report is not made of the members' facts. */
export type RoundSummary = Pick<
  RoundReport,
  | 'round'
  | 'epoch'
  | 'startedAt'
  | 'durationMs'
  | 'endReason'
  | 'policy'
  | 'predictedDowntimeMs'
  | 'rawPredictedDowntimeMs'
> & { readonly failure: Failure | undefined };

export function reportRound(
  summary: RoundSummary,
  facts: ReadonlyMap<string, RoundFacts>,
  predictions: ReadonlyMap<string, number>,
): RoundReport {
  const all = [...facts.values()];
  const stops = all.flatMap(({ stoppedAtUs }) => stoppedAtUs ?? []);
  const resumes = all.flatMap(({ resumedAtUs }) => resumedAtUs ?? []);
  const whole = stops.length === all.length && resumes.length === all.length && all.length > 0;
  const firstStop = Math.min(...stops);
  const lastStop = Math.max(...stops);
  const startedAtMs = Date.parse(summary.startedAt);
  const clusterDowntimeMs = whole ? milliseconds(Math.max(...resumes) - firstStop) : undefined;
  return {
    kind: 'round',
    ...summary,
    outcome: summary.failure === undefined ? 'committed' : 'aborted',
    clusterDowntimeMs,
    predictionError: relativeError(summary.predictedDowntimeMs, clusterDowntimeMs),
    skewMs: stops.length > 0 ? milliseconds(lastStop - firstStop) : undefined,
    barrierHeld: whole ? Math.min(...all.map(heardAtUs)) >= lastStop : undefined,
    streamBytes: sum(all, ({ liveBytes = 0, drainBytes = 0 }) => liveBytes + drainBytes),
    liveBytes: sum(all, ({ liveBytes = 0 }) => liveBytes),
    drainBytes: sum(all, ({ drainBytes = 0 }) => drainBytes),
    repeatedPages: sum(all, ({ repeatedPages = 0 }) => repeatedPages),
    storedBytes: sum(all, ({ storedBytes = 0 }) => storedBytes),
    members: [...facts].map(([member, { flow = [], ...known }]) => ({
      member,
      ...known,
      downtimeMs: difference(known.resumedAtUs, known.stoppedAtUs),
      stopSkewMs: difference(known.stoppedAtUs, firstStop),
      predictedDowntimeMs: predictions.get(member),
      savingMs: savingMs(known),
      silentMs: difference(known.releasedAtUs, known.stoppedAtUs),
      timeline: timelineOf({ flow, ...known }, startedAtMs),
    })),
  };
}

function relativeError(predicted: number | undefined, real: number | undefined) {
  if (predicted === undefined || real === undefined || real <= 0) return undefined;
  return Math.abs(predicted - real) / real;
}

function difference(later: number | undefined, earlier: number | undefined): number | undefined {
  if (later === undefined || earlier === undefined) return undefined;
  return milliseconds(later - earlier);
}

function savingMs({ capture, drainMs, stoppedAtUs, resumedAtUs }: RoundFacts): number | undefined {
  if (capture !== 'background' || drainMs === undefined) return undefined;
  const stood = difference(resumedAtUs, stoppedAtUs);
  return stood === undefined ? undefined : Math.max(0, drainMs - stood);
}

function milliseconds(microseconds: number): number {
  return microseconds / 1000;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

/** When others could hear of a member again: who runs on behind held frames is silent. */
function heardAtUs({ releasedAtUs, resumedAtUs = 0 }: RoundFacts): number {
  return releasedAtUs ?? resumedAtUs;
}
