/**
 * Does waiting still buy anything? PURE: the last state and a look in, the next state out.
 *
 * A look improves on the best so far if it predicts a tenth less downtime. After some looks without
 * improvement, in which the slowest member has also gone through its dirty memory twice more, it has
 * reached what its guest's pace allows: it dirties as fast as it streams.
 */
import type { Estimate } from './estimator.ts';

export interface Progress {
  readonly bestMs: number;
  readonly looksSince: number;
  /** The slowest member of the last look, and its pass when the best was seen. */
  readonly slowest: string;
  readonly passAtBest: number;
}

const IMPROVEMENT = 0.9;
const LOOKS = 3;
const PASSES = 2;

/** @returns undefined while nothing can be told: not all have sent their memory once */
export function observeProgress(
  before: Progress | undefined,
  members: ReadonlyMap<string, Estimate>,
): Progress | undefined {
  const slowest = slowestOf(members);
  if (slowest === undefined) return undefined;
  const { name, ms, passes } = slowest;
  const better = before === undefined || ms < before.bestMs * IMPROVEMENT;
  if (better) return { bestMs: ms, looksSince: 0, slowest: name, passAtBest: passes };
  // Another member has become the slowest: its passes count from now.
  const passAtBest = name === before.slowest ? before.passAtBest : passes;
  return { ...before, looksSince: before.looksSince + 1, slowest: name, passAtBest };
}

/** @returns why waiting buys nothing, or undefined while it may */
export function whyStalled(
  progress: Progress | undefined,
  members: ReadonlyMap<string, Estimate>,
): string | undefined {
  if (progress === undefined || progress.looksSince < LOOKS) return undefined;
  const { slowest, passAtBest } = progress;
  const one = members.get(slowest);
  if (one === undefined) return undefined;
  if (one.keptBack) return `${slowest} cannot send more before it stops`;
  if (one.passes < passAtBest + PASSES) return undefined;
  return `${slowest} dirties memory as fast as it is sent: waiting buys nothing`;
}

function slowestOf(
  members: ReadonlyMap<string, Estimate>,
): { readonly name: string; readonly ms: number; readonly passes: number } | undefined {
  let worst: { name: string; ms: number; passes: number } | undefined;
  for (const [name, { waits, firstPassDone, downtimeMs, passes }] of members) {
    if (waits) continue;
    if (!firstPassDone || downtimeMs === undefined) return undefined;
    if (worst === undefined || downtimeMs > worst.ms) worst = { name, ms: downtimeMs, passes };
  }
  return worst;
}
