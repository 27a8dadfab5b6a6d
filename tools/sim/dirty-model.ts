/**
 * Models how a guest dirties its memory. PURE. Single pages are not counted: with n writes
 * spread evenly over W pages of which d are dirty already,
 *
 *     newly dirty = (W − d) · (1 − exp(−n/W))
 *
 * is what is to be expected, it is exact over any way of cutting an interval in two, and it makes
 * thousands of VMs cheap. A model has one region of memory or two, which share no page.
 *
 *     idle          writes nothing
 *     uniform       writes all over the memory in use
 *     working-set   writes to some of it, again and again
 *     phases        goes to and fro between two working sets
 *     bursts        writes four times as fast for a quarter of each second, and rests
 */
export interface WorkingSet {
  readonly bytesPerSecond: number;
  readonly workingSetBytes: number;
}

export type DirtyModel =
  | { readonly kind: 'idle' }
  | { readonly kind: 'uniform'; readonly bytesPerSecond: number }
  | (WorkingSet & { readonly kind: 'working-set' })
  | {
      readonly kind: 'phases';
      readonly first: WorkingSet;
      readonly second: WorkingSet;
      /** Each lasts that long. */
      readonly phaseMs: number;
      /** Time before zero at which the first began. */
      readonly offsetMs: number;
    }
  | (WorkingSet & { readonly kind: 'bursts'; readonly offsetMs: number });

export const PAGE_BYTES = 4096;
const BURST_PERIOD_MS = 1000;
const BURST_MS = 250;

/** Returns the pages of each region; together never more than `pages` */
export function regionsOf(model: DirtyModel, pages: number): number[] {
  switch (model.kind) {
    case 'idle':
      return [];
    case 'uniform':
      return [pages];
    case 'working-set':
    case 'bursts':
      return [Math.min(pages, model.workingSetBytes / PAGE_BYTES)];
    case 'phases': {
      const first = Math.min(pages, model.first.workingSetBytes / PAGE_BYTES);
      return [first, Math.min(pages - first, model.second.workingSetBytes / PAGE_BYTES)];
    }
  }
}

/** Returns pages written in a region from one virtual instant (milliseconds) to a later one. */
export function pageWrites(
  model: DirtyModel,
  region: number,
  fromMs: number,
  toMs: number,
): number {
  switch (model.kind) {
    case 'idle':
      return 0;
    case 'uniform':
    case 'working-set':
      return pagesIn(model.bytesPerSecond, toMs - fromMs);
    case 'bursts': {
      const { offsetMs, bytesPerSecond } = model;
      const rate = bytesPerSecond * (BURST_PERIOD_MS / BURST_MS);
      const from = timeIn(fromMs + offsetMs, BURST_PERIOD_MS, BURST_MS);
      return pagesIn(rate, timeIn(toMs + offsetMs, BURST_PERIOD_MS, BURST_MS) - from);
    }
    case 'phases': {
      const { first, second, phaseMs, offsetMs } = model;
      const from = timeIn(fromMs + offsetMs, 2 * phaseMs, phaseMs);
      const inFirst = timeIn(toMs + offsetMs, 2 * phaseMs, phaseMs) - from;
      if (region === 0) return pagesIn(first.bytesPerSecond, inFirst);
      return pagesIn(second.bytesPerSecond, toMs - fromMs - inFirst);
    }
  }
}

/** Returns how many of a region's clean pages become dirty. */
export function newlyDirty(regionPages: number, dirtyPages: number, writes: number): number {
  if (regionPages <= 0) return 0;
  return (regionPages - dirtyPages) * -Math.expm1(-writes / regionPages);
}

/** Returns the pages that are dirty after an interval at whose beginning all were clean. */
export function distinctPages(
  model: DirtyModel,
  pages: number,
  fromMs: number,
  toMs: number,
): number {
  return regionsOf(model, pages).reduce((sum, regionPages, region) => {
    return sum + newlyDirty(regionPages, 0, pageWrites(model, region, fromMs, toMs));
  }, 0);
}

function pagesIn(bytesPerSecond: number, ms: number): number {
  return (bytesPerSecond * ms) / 1000 / PAGE_BYTES;
}

/** Returns how much of [0, ms] lies in the first `partMs` of each period. */
function timeIn(ms: number, periodMs: number, partMs: number): number {
  const periods = Math.floor(ms / periodMs);
  return periods * partMs + Math.min(partMs, ms - periods * periodMs);
}
