/**
 * When does the live phase end, for all members at once? PURE: estimates and time in, decision out.
 *
 * Conditions are composed; the first in the list that holds ends the phase, and its reason is told.
 * (A member that switches over by itself ends it, too; that is the round's own rule.)
 */
import type { Estimate } from './estimator.ts';

export type EndCondition =
  | { readonly kind: 'all-first-pass' }
  | { readonly kind: 'any-first-pass' }
  | { readonly kind: 'predicted-downtime'; readonly ms: number }
  | { readonly kind: 'no-progress' }
  | { readonly kind: 'memory-bound'; readonly factor: number }
  | { readonly kind: 'elapsed'; readonly ms: number };

export type EndDecision =
  | { readonly end: false }
  | { readonly end: true; readonly condition: EndCondition['kind']; readonly reason: string };

/** @param elapsedMs since the live phase began */
export function decideEnd(
  members: ReadonlyMap<string, Estimate>,
  elapsedMs: number,
  conditions: readonly EndCondition[],
): EndDecision {
  for (const condition of conditions) {
    const why = holds(condition, members, elapsedMs);
    if (why === undefined) continue;
    return { end: true, condition: condition.kind, reason: `${condition.kind}: ${why}` };
  }
  return { end: false };
}

/** @returns why it holds, or undefined if it does not */
function holds(
  condition: EndCondition,
  members: ReadonlyMap<string, Estimate>,
  elapsedMs: number,
): string | undefined {
  const all = [...members];
  const live = all.filter(([, { waits }]) => !waits);
  switch (condition.kind) {
    case 'all-first-pass':
      return live.every(([, { firstPassDone }]) => firstPassDone)
        ? 'every member has sent all its memory once'
        : undefined;
    case 'any-first-pass': {
      const [first] = live.find(([, { firstPassDone }]) => firstPassDone) ?? [];
      if (live.length === 0) return 'no member has a live phase';
      return first && `${first} has sent all its memory once`;
    }
    case 'predicted-downtime':
      return predictedDowntime(live, condition.ms);
    case 'no-progress':
      return noProgress(live);
    case 'memory-bound': {
      const [over] = live.find(([, one]) => isOverBound(one, condition.factor)) ?? [];
      return over && `${over} has sent ${condition.factor} times its RAM`;
    }
    case 'elapsed': {
      if (elapsedMs < condition.ms) return undefined;
      const late = live.filter(([, { firstPassDone }]) => !firstPassDone).map(([name]) => name);
      const rest = late.length === 0 ? '' : `; not sent once: ${late.join(', ')}`;
      return `the live phase lasted ${condition.ms} ms${rest}`;
    }
  }
}

type Members = readonly (readonly [string, Estimate])[];

/** The slowest counts: nobody resumes before all have stopped. */
function predictedDowntime(live: Members, limitMs: number): string | undefined {
  let worst = 0;
  for (const [, { firstPassDone, downtimeMs }] of live) {
    if (!firstPassDone || downtimeMs === undefined) return undefined;
    worst = Math.max(worst, downtimeMs);
  }
  return worst <= limitMs ? `${Math.round(worst)} ms predicted for the slowest` : undefined;
}

/** Every member that still has something to gain dirties faster than it streams. */
function noProgress(live: Members): string | undefined {
  const behind: string[] = [];
  for (const [name, { firstPassDone, bandwidth, dirtyBytesPerSecond }] of live) {
    if (!firstPassDone || bandwidth === undefined || dirtyBytesPerSecond === undefined) {
      return undefined;
    }
    if (dirtyBytesPerSecond >= bandwidth) behind.push(name);
  }
  if (behind.length === 0) return undefined;
  return `${behind.join(', ')} dirty memory as fast as it can be sent: waiting buys nothing`;
}

function isOverBound({ liveBytes, ramBytes }: Estimate, factor: number): boolean {
  return ramBytes > 0 && liveBytes >= factor * ramBytes;
}
