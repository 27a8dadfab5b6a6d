/**
 * When does the live phase end, for all members at once? PURE: what a look has shown in, decision out.
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

export interface Look {
  readonly members: ReadonlyMap<string, Estimate>;
  /** Since the live phase began. */
  readonly elapsedMs: number;
  /** Cluster downtime if it ended now, milliseconds; undefined while it cannot be told. */
  readonly predictedMs: number | undefined;
  /** Why waiting buys nothing (progress.ts), undefined while it may. */
  readonly stalled: string | undefined;
}

export function decideEnd(look: Look, conditions: readonly EndCondition[]): EndDecision {
  for (const condition of conditions) {
    const why = holds(condition, look);
    if (why === undefined) continue;
    return { end: true, condition: condition.kind, reason: `${condition.kind}: ${why}` };
  }
  return { end: false };
}

/** @returns why it holds, or undefined if it does not */
function holds(condition: EndCondition, look: Look): string | undefined {
  const { members, elapsedMs, predictedMs, stalled } = look;
  switch (condition.kind) {
    case 'all-first-pass':
      return find(members, (one) => !one.firstPassDone) === undefined
        ? 'every member has sent all its memory once'
        : undefined;
    case 'any-first-pass': {
      if (find(members, () => true) === undefined) return 'no member has a live phase';
      const first = find(members, (one) => one.firstPassDone);
      return first && `${first} has sent all its memory once`;
    }
    case 'predicted-downtime':
      if (predictedMs === undefined || predictedMs > condition.ms) return undefined;
      return `${Math.round(predictedMs)} ms predicted`;
    case 'no-progress':
      return stalled;
    case 'memory-bound': {
      const { factor } = condition;
      // One that has sent all once is held there: the others' first pass is worth more than its end.
      const early = find(members, (one) => !one.firstPassDone) !== undefined;
      const over = find(
        members,
        (one) => isOverBound(one, factor) && !(early && one.firstPassDone),
      );
      return over && `${over} has sent ${factor} times its RAM`;
    }
    case 'elapsed':
      return elapsedMs < condition.ms ? undefined : elapsedReason(members, condition.ms);
  }
}

/** The first member with a live phase that is so. */
function find(
  members: ReadonlyMap<string, Estimate>,
  isSo: (one: Estimate) => boolean,
): string | undefined {
  for (const [name, one] of members) if (!one.waits && isSo(one)) return name;
  return undefined;
}

function isOverBound({ liveBytes, ramBytes }: Estimate, factor: number): boolean {
  return ramBytes > 0 && liveBytes >= factor * ramBytes;
}

function elapsedReason(members: ReadonlyMap<string, Estimate>, ms: number): string {
  const late = [...members].filter(([, { waits, firstPassDone }]) => !waits && !firstPassDone);
  const names = late.map(([name]) => name).join(', ');
  return `the live phase lasted ${ms} ms${names === '' ? '' : `; not sent once: ${names}`}`;
}
