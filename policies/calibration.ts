/**
 * Correction of a round's predicted downtime by what finished rounds have cost. PURE.
 *
 *     raw       = the largest of remaining ÷ live bandwidth + switchover    over the members
 *
 *     predicted     ·                 ╱  beyond what was seen: slope 1
 *               ·           ╱─────────
 *               ·   ╱───────    offset + slope · raw, fitted to the last rounds
 *               ·  ╱  below it: slope 1, but no less than a proportional share
 *               ·╱
 *               └──┴────────────────┴──────▶ raw
 *                least            most seen
 *
 * The raw prediction knows what is left to send. It knows neither how cores and memory are
 * contended for when all VMs stop at once, nor how much faster a stopped VM streams than a running
 * one. The fit is Theil–Sen's (medians of slopes and of residuals), so that one odd round does not
 * count. Where raw predictions told rounds apart, the slope is near 1. Where they were noise it is
 * near 0, and the prediction is the cost of such rounds.
 */

/** The outcome of one round. */
export interface RoundOutcome {
  /** First STOP to last RESUME, milliseconds. */
  readonly clusterDowntimeMs: number;
  /** Prediction at the end of the live phase, before and after correction, if there was one. */
  readonly rawPredictedMs: number | undefined;
  readonly predictedMs: number | undefined;
}

export interface Calibration {
  /** Oldest first. */
  readonly rounds: readonly RoundOutcome[];
  readonly fit: Fit | undefined;
  /** Median of |predicted − real| ÷ real over those rounds; undefined before the first. */
  readonly errorMedian: number | undefined;
}

export interface Fit {
  readonly slope: number;
  readonly offsetMs: number;
  /** Least and greatest raw prediction the fit was made from. */
  readonly rawLeastMs: number;
  readonly rawMostMs: number;
}

export const NO_CALIBRATION: Calibration = { rounds: [], fit: undefined, errorMedian: undefined };

const ROUNDS_KEPT = 12;
/** Rounds a slope takes: fitted to fewer it is chance, and only the offset is used. */
const LEAST_FOR_SLOPE = 4;
/** Least downtime of any cluster: device state, votes and commands. */
const LEAST_MS = 5;

/** Returns the calibration after one more round. */
export function calibrate(before: Calibration, outcome: RoundOutcome): Calibration {
  const rounds = [...before.rounds, outcome].slice(-ROUNDS_KEPT);
  const errorMedian = median(rounds.flatMap(predictionError));
  return { rounds, fit: fitOf(rounds), errorMedian };
}

/** Corrects a raw prediction of cluster downtime, milliseconds. */
export function correct(rawMs: number, fit: Fit | undefined): number {
  if (fit === undefined) return rawMs;
  const { slope, offsetMs, rawLeastMs, rawMostMs } = fit;
  const at = (ms: number) => Math.max(LEAST_MS, offsetMs + slope * ms);
  if (rawMs > rawMostMs) return at(rawMostMs) + (rawMs - rawMostMs);
  if (rawMs >= rawLeastMs) return at(rawMs);
  const least = at(rawLeastMs);
  return Math.max(LEAST_MS, least - (rawLeastMs - rawMs), (least * rawMs) / rawLeastMs);
}

/** Returns |predicted − real| ÷ real; nothing if there was no prediction. */
function predictionError({ predictedMs, clusterDowntimeMs }: RoundOutcome): number[] {
  if (predictedMs === undefined || clusterDowntimeMs <= 0) return [];
  return [Math.abs(predictedMs - clusterDowntimeMs) / clusterDowntimeMs];
}

function fitOf(rounds: readonly RoundOutcome[]): Fit | undefined {
  const points = rounds.flatMap(({ rawPredictedMs, clusterDowntimeMs }) => {
    return rawPredictedMs === undefined ? [] : { x: rawPredictedMs, y: clusterDowntimeMs };
  });
  if (points.length === 0) return undefined;
  const slope = points.length < LEAST_FOR_SLOPE ? 1 : slopeOf(points);
  const raws = points.map(({ x }) => x);
  return {
    slope,
    offsetMs: median(points.map(({ x, y }) => y - slope * x)) ?? 0,
    rawLeastMs: Math.min(...raws),
    rawMostMs: Math.max(...raws),
  };
}

/**
 * Returns the median slope, within 0 and 1: more to send takes no less time, and no more than to
 * send it.
 */
function slopeOf(points: readonly { readonly x: number; readonly y: number }[]): number {
  const slopes = points.flatMap((a, index) =>
    points.slice(index + 1).flatMap((b) => (a.x === b.x ? [] : (b.y - a.y) / (b.x - a.x))),
  );
  return Math.min(1, Math.max(0, median(slopes) ?? 1));
}

function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper === undefined || lower === undefined ? undefined : (lower + upper) / 2;
}
