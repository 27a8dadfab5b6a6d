/**
 * What finished rounds teach about the next one's downtime. PURE.
 *
 *     raw       = the largest of remaining ÷ bandwidth + switchover       over the members
 *     predicted = offset + slope · raw                                    within what was seen
 *               … + (raw − largest seen)                                  beyond it, in full
 *
 * The raw prediction knows what is left to send, but neither how much cores and memory are fought over
 * when all stop at once, nor what is still dirtied on the way there. Slope and offset are fitted to the
 * last rounds (Theil–Sen: medians of slopes and of rests, so that one odd round does not count): where
 * raw predictions have told rounds apart the slope is near 1, where they were noise it is near 0, and
 * the prediction is what such rounds have cost. Beyond what was seen, every millisecond counts.
 */
import { type Experience, NO_EXPERIENCE } from './estimator.ts';

/** How one member's drain went. */
export interface DrainOutcome {
  readonly drainBytes: number;
  /** STOP to the last byte, milliseconds. */
  readonly drainMs: number;
  /** STOP to RESUME, milliseconds. */
  readonly downtimeMs: number;
}

/** How one round went. */
export interface RoundOutcome {
  readonly members: ReadonlyMap<string, DrainOutcome>;
  /** First STOP to last RESUME, milliseconds. */
  readonly clusterDowntimeMs: number;
  /** As it was predicted when the live phase ended, before and after correction, if it could be. */
  readonly rawPredictedMs: number | undefined;
  readonly predictedMs: number | undefined;
}

export interface Calibration {
  /** Oldest first. */
  readonly rounds: readonly RoundOutcome[];
  readonly members: ReadonlyMap<string, Experience>;
  readonly fit: Fit;
  /** Median of |predicted − real| ÷ real over those rounds; undefined before the first. */
  readonly errorMedian: number | undefined;
}

export interface Fit {
  readonly slope: number;
  readonly offsetMs: number;
  /** The largest raw prediction it was fitted to. */
  readonly rawMostMs: number;
}

const NO_FIT: Fit = { slope: 1, offsetMs: 0, rawMostMs: 0 };

export const NO_CALIBRATION: Calibration = {
  rounds: [],
  members: new Map(),
  fit: NO_FIT,
  errorMedian: undefined,
};

const ROUNDS_KEPT = 12;
/** With fewer rounds a slope is chance: only the offset is learned. */
const LEAST_FOR_SLOPE = 4;
/** Shorter drains are all switchover, and tell nothing about speed. */
const LEAST_DRAIN_BYTES = 2 ** 20;
/** A cluster that stops at all does not do so in less. */
const LEAST_MS = 1;

/** @returns what is known after one more round */
export function learn(before: Calibration, outcome: RoundOutcome): Calibration {
  const rounds = [...before.rounds, outcome].slice(-ROUNDS_KEPT);
  const members = new Map(
    [...outcome.members.keys()].map((name) => [name, experienceOf(name, rounds)] as const),
  );
  return {
    rounds,
    members,
    fit: fitOf(rounds),
    errorMedian: median(rounds.flatMap(predictionError)),
  };
}

/** Corrects a raw prediction of cluster downtime, milliseconds. */
export function correct(rawMs: number, { slope, offsetMs, rawMostMs }: Fit): number {
  const within = Math.min(rawMs, rawMostMs);
  return Math.max(LEAST_MS, offsetMs + slope * within + (rawMs - within));
}

/** |predicted − real| ÷ real, if there was a prediction. */
export function predictionError({ predictedMs, clusterDowntimeMs }: RoundOutcome): number[] {
  if (predictedMs === undefined || clusterDowntimeMs <= 0) return [];
  return [Math.abs(predictedMs - clusterDowntimeMs) / clusterDowntimeMs];
}

function fitOf(rounds: readonly RoundOutcome[]): Fit {
  const points = rounds.flatMap(({ rawPredictedMs, clusterDowntimeMs }) => {
    return rawPredictedMs === undefined ? [] : { x: rawPredictedMs, y: clusterDowntimeMs };
  });
  if (points.length === 0) return NO_FIT;
  const slope = points.length < LEAST_FOR_SLOPE ? 1 : slopeOf(points);
  return {
    slope,
    offsetMs: median(points.map(({ x, y }) => y - slope * x)) ?? 0,
    rawMostMs: Math.max(...points.map(({ x }) => x)),
  };
}

/** More to send never takes less time, nor more than it takes to send. */
function slopeOf(points: readonly { readonly x: number; readonly y: number }[]): number {
  const slopes = points.flatMap((a, index) =>
    points.slice(index + 1).flatMap((b) => (a.x === b.x ? [] : (b.y - a.y) / (b.x - a.x))),
  );
  return Math.min(1, Math.max(0, median(slopes) ?? 1));
}

function experienceOf(name: string, rounds: readonly RoundOutcome[]): Experience {
  const drains = rounds.flatMap(({ members }) => members.get(name) ?? []);
  const long = drains.filter(({ drainBytes }) => drainBytes >= LEAST_DRAIN_BYTES);
  const drainBandwidth = median(
    long.map(({ drainBytes, drainMs }) => (drainBytes / Math.max(1, drainMs)) * 1000),
  );
  const unexplained = drains.map(({ downtimeMs, drainBytes }) => {
    const sendingMs = drainBandwidth === undefined ? 0 : (drainBytes / drainBandwidth) * 1000;
    return Math.max(0, downtimeMs - sendingMs);
  });
  return { drainBandwidth, switchoverMs: median(unexplained) ?? NO_EXPERIENCE.switchoverMs };
}

function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper === undefined || lower === undefined ? undefined : (lower + upper) / 2;
}
