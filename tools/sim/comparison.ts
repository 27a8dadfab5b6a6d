/**
 * Multiplexing policies side by side: the same clusters, the same seeds, the same end condition.
 * Ratios are made seed by seed, so that what clusters differ in is not taken for what policies
 * do.
 */
import type { EndCondition, Multiplexing } from '../../policies/index.ts';
import { type ClusterSpec, type SimulationOptions, simulate } from './simulation.ts';

export const MULTIPLEXINGS = {
  parallel: { kind: 'parallel', slotMs: 200, dirtyShare: 0.5 },
  'round-robin': { kind: 'round-robin', slotMs: 200, atOnce: 2 },
  'finish-together': { kind: 'finish-together', slotMs: 200, atOnce: 2 },
} as const satisfies Readonly<Record<string, Multiplexing>>;

export const CONDITIONS = {
  'all-first-pass': { kind: 'all-first-pass' },
  'no-progress': { kind: 'no-progress' },
  'predicted-downtime': { kind: 'predicted-downtime', ms: 300 },
} as const satisfies Readonly<Record<string, EndCondition>>;

/** Figures of a round. Less is better in each. */
export interface Figures {
  /** Bytes of the round, with its drain, per byte of RAM. */
  readonly bytes: number;
  readonly downtimeMs: number;
  readonly latencyMs: number;
}

export const FIGURES = ['bytes', 'downtimeMs', 'latencyMs'] as const;

export interface Run extends Figures {
  /** The condition that ended the live phase. */
  readonly endedBy: string;
}

export function measure(
  cluster: ClusterSpec,
  seed: number,
  endWhen: readonly EndCondition[],
  multiplexing: Multiplexing,
  more: Partial<SimulationOptions> = {},
): Run {
  const round = simulate({ seed, cluster, endWhen, multiplexing, ...more });
  return {
    bytes: round.totalBytes / round.ramBytes,
    downtimeMs: round.clusterDowntimeMs,
    latencyMs: round.latencyMs,
    endedBy: round.endReason?.split(':')[0] ?? 'nothing',
  };
}

export function spreadOf(runs: readonly Run[], figure: keyof Figures) {
  const values = runs.map((run) => run[figure]);
  const least = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const most = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return { median: median(values), least, most };
}

export interface Ratio {
  /** Median of one ÷ other, over all seeds. */
  readonly median: number;
  /** Share of seeds in which the one is better by more than a thousandth. */
  readonly better: number;
  /** Share of seeds in which it is worse by as much. */
  readonly worse: number;
}

export function compareRuns(
  runs: readonly Run[],
  others: readonly Run[],
  figure: keyof Figures,
): Ratio {
  const ratios = runs.map((run, index) => run[figure] / (others[index]?.[figure] ?? Number.NaN));
  const share = (isSo: (ratio: number) => boolean) => ratios.filter(isSo).length / ratios.length;
  return {
    median: median(ratios),
    better: share((ratio) => ratio < 0.999),
    worse: share((ratio) => ratio > 1.001),
  };
}

/** Counts how often each condition ended the live phase. */
export function endings(runs: readonly Run[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { endedBy } of runs) counts.set(endedBy, (counts.get(endedBy) ?? 0) + 1);
  return new Map([...counts].sort(([, a], [, b]) => b - a));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN;
  return (lower + upper) / 2;
}
