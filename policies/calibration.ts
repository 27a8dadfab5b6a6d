/**
 * What finished rounds teach about the next one's downtime. PURE.
 *
 *     predicted = remaining ÷ drain bandwidth + switchover       for each member
 *     cluster   = the largest of them + overhead                 first STOP to last RESUME
 *
 * Drain bandwidth is a member's own, of rounds in which all members drained at once, as they will
 * again: what their streams cost each other is in it. Switchover and overhead are the medians of what
 * the sending does not explain. Only the last rounds count, for loads change.
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
  /** As it was predicted when the live phase ended; undefined if it could not be. */
  readonly predictedMs: number | undefined;
}

export interface Calibration {
  /** Oldest first. */
  readonly rounds: readonly RoundOutcome[];
  readonly members: ReadonlyMap<string, Experience>;
  /** Added to the slowest member's downtime: what waiting for each other costs. */
  readonly overheadMs: number;
  /** Median of |predicted − real| ÷ real over those rounds; undefined before the first. */
  readonly errorMedian: number | undefined;
}

export const NO_CALIBRATION: Calibration = {
  rounds: [],
  members: new Map(),
  overheadMs: 0,
  errorMedian: undefined,
};

const ROUNDS_KEPT = 8;
/** Shorter drains are all switchover, and tell nothing about speed. */
const LEAST_DRAIN_BYTES = 2 ** 20;

/** @returns what is known after one more round */
export function learn(before: Calibration, outcome: RoundOutcome): Calibration {
  const rounds = [...before.rounds, outcome].slice(-ROUNDS_KEPT);
  const members = new Map(
    [...outcome.members.keys()].map((name) => [name, experienceOf(name, rounds)] as const),
  );
  const overheads = rounds.map(({ members: drains, clusterDowntimeMs }) => {
    return clusterDowntimeMs - Math.max(...[...drains.values()].map((one) => one.downtimeMs));
  });
  const errors = rounds.flatMap(predictionError);
  return {
    rounds,
    members,
    overheadMs: Math.max(0, median(overheads) ?? 0),
    errorMedian: median(errors),
  };
}

/** |predicted − real| ÷ real, if there was a prediction. */
export function predictionError({ predictedMs, clusterDowntimeMs }: RoundOutcome): number[] {
  if (predictedMs === undefined || clusterDowntimeMs <= 0) return [];
  return [Math.abs(predictedMs - clusterDowntimeMs) / clusterDowntimeMs];
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
