/**
 * Progress of the live phase. PURE: the last state and the estimates of a tick in, the next state
 * out.
 *
 * A tick improves on the best so far if it predicts a tenth less downtime. After some ticks without
 * improvement, in which the slowest member has also gone through its dirty memory twice more,
 * waiting gains nothing: the guest dirties memory as fast as it streams.
 */
import type { Estimate } from './estimator.ts';

export interface Progress {
  readonly bestMs: number;
  /** Ticks since the best was seen. */
  readonly ticksSince: number;
  /** The slowest member of the last tick, and its pass when the best was seen. */
  readonly slowest: string;
  readonly passAtBest: number;
}

const IMPROVEMENT = 0.9;
const TICKS = 3;
const PASSES = 2;

/** Returns the next state; undefined while not all members have sent their memory once. */
export function observeProgress(
  before: Progress | undefined,
  members: ReadonlyMap<string, Estimate>,
): Progress | undefined {
  const slowest = slowestOf(members);
  if (slowest === undefined) return undefined;
  const { name, ms, passes } = slowest;
  const better = before === undefined || ms < before.bestMs * IMPROVEMENT;
  if (better) return { bestMs: ms, ticksSince: 0, slowest: name, passAtBest: passes };
  // Another member has become the slowest: its passes count from now.
  const passAtBest = name === before.slowest ? before.passAtBest : passes;
  return { ...before, ticksSince: before.ticksSince + 1, slowest: name, passAtBest };
}

/** Returns the reason why waiting gains nothing; undefined while it may. */
export function whyStalled(
  progress: Progress | undefined,
  members: ReadonlyMap<string, Estimate>,
): string | undefined {
  if (progress === undefined || progress.ticksSince < TICKS) return undefined;
  const { slowest, passAtBest } = progress;
  const one = members.get(slowest);
  if (one === undefined) return undefined;
  if (one.keptBack) return `${slowest} cannot send more before it stops`;
  if (one.passes < passAtBest + PASSES) return undefined;
  return `${slowest} dirties memory as fast as it is sent: waiting gains nothing`;
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
