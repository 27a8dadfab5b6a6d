/** The report of a round, made of its members' facts (protocol/report.ts). PURE. */
import type { RoundReport } from '../../protocol/report.ts';
import type { RoundFacts } from '../../protocol/round-facts.ts';
import { timelineOf } from './timeline.ts';

/** The part of a report that does not come from the members' facts. */
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
  | 'failure'
  | 'proof'
>;

/**
 * Returns the report of a round. Every figure in it is finite: JSON knows no other.
 * @param predictions downtime by member, milliseconds; infinite if it cannot be predicted
 */
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
  const predictedDowntimeMs = finite(summary.predictedDowntimeMs);
  return {
    kind: 'round',
    ...summary,
    predictedDowntimeMs,
    rawPredictedDowntimeMs: finite(summary.rawPredictedDowntimeMs),
    outcome: summary.failure === undefined ? 'committed' : 'aborted',
    clusterDowntimeMs,
    predictionError: relativeError(predictedDowntimeMs, clusterDowntimeMs),
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
      predictedDowntimeMs: finite(predictions.get(member)),
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

function finite(value: number | undefined): number | undefined {
  return value !== undefined && Number.isFinite(value) ? value : undefined;
}

function difference(later: number | undefined, earlier: number | undefined): number | undefined {
  if (later === undefined || earlier === undefined) return undefined;
  return milliseconds(later - earlier);
}

function savingMs({ capture, drainMs, stoppedAtUs, resumedAtUs }: RoundFacts): number | undefined {
  if (capture !== 'background' || drainMs === undefined) return undefined;
  const stoppedMs = difference(resumedAtUs, stoppedAtUs);
  return stoppedMs === undefined ? undefined : Math.max(0, drainMs - stoppedMs);
}

function milliseconds(microseconds: number): number {
  return microseconds / 1000;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

/** Returns when the outside could hear of a member again: held frames keep it silent longer. */
function heardAtUs({ releasedAtUs, resumedAtUs = 0 }: RoundFacts): number {
  return releasedAtUs ?? resumedAtUs;
}
