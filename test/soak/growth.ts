/**
 * Growth over a soak: early measurements against late ones. PURE.
 *
 *     |~ warm-up ~|── first third ──|                |── last third ──|
 *                       median            growth = difference      median
 */
import { spread } from '../../tools/bench/statistics.ts';

/** Measurements at one quiet moment: no round, no restore, no job. */
export interface Sample {
  readonly atMs: number;
  readonly daemonMiB: number;
  readonly proxiesMiB: number;
  /** Open descriptors of the daemon and the proxies together. */
  readonly descriptors: number;
  readonly processes: number;
  /** All files below the cluster's folder, epochs included. */
  readonly tmpfsMiB: number;
}

export type Measure = Exclude<keyof Sample, 'atMs'>;

/** Growth that counts as noise: heaps vary, and an epoch is as large as the guests' writes. */
export const NOISE: Readonly<Record<Measure, number>> = {
  daemonMiB: 24,
  proxiesMiB: 48,
  descriptors: 4,
  processes: 0,
  tmpfsMiB: 96,
};

export const MEASURES = Object.keys(NOISE) as readonly Measure[];

/** Share of the samples, at the beginning, that is ignored. */
const WARM_UP = 0.1;
const LEAST_SAMPLES = 6;

/** Returns the growth of each measure; undefined if there are too few samples. */
export function growthOf(samples: readonly Sample[]): Record<Measure, number> | undefined {
  const steady = samples.slice(Math.ceil(samples.length * WARM_UP));
  if (steady.length < LEAST_SAMPLES) return undefined;
  const third = Math.floor(steady.length / 3);
  const middle = (part: readonly Sample[], measure: Measure) =>
    spread(part.map((sample) => sample[measure])).median;
  const entries = MEASURES.map((measure) => {
    const grown = middle(steady.slice(-third), measure) - middle(steady.slice(0, third), measure);
    return [measure, Math.round(grown * 10) / 10];
  });
  return Object.fromEntries(entries) as Record<Measure, number>;
}

/** Returns the measures that have grown by more than noise. */
export function grown(growth: Readonly<Record<Measure, number>>): Measure[] {
  return MEASURES.filter((measure) => growth[measure] > NOISE[measure]);
}
