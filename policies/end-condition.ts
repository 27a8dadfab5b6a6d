/**
 * The end of the live phase, for all members at once. PURE: a view of the phase in, decision out.
 *
 * Conditions are composed: the first in the list that holds ends the phase and gives the reason. (A
 * member that switches over by itself ends it, too; that is the round's own rule.)
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

/** The live phase at one instant. */
export interface LiveView {
  readonly members: ReadonlyMap<string, Estimate>;
  /** Time since the live phase began, milliseconds. */
  readonly elapsedMs: number;
  /** Cluster downtime if the phase ended now, milliseconds; undefined while it is unknown. */
  readonly predictedMs: number | undefined;
  /** The reason why waiting gains nothing (progress.ts); undefined while it may. */
  readonly stalled: string | undefined;
}

/** Decides whether the phase ends now. */
export function decideEnd(view: LiveView, conditions: readonly EndCondition[]): EndDecision {
  for (const condition of conditions) {
    const why = reasonOf(condition, view);
    if (why === undefined) continue;
    return { end: true, condition: condition.kind, reason: `${condition.kind}: ${why}` };
  }
  return { end: false };
}

/** Returns the reason why a condition holds; undefined if it does not. */
function reasonOf(condition: EndCondition, view: LiveView): string | undefined {
  const { members, elapsedMs, predictedMs, stalled } = view;
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
      // A member that has sent all once is held there: the others' first pass is worth more.
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

/** Finds the first member with a live phase for which a predicate holds. */
function find(
  members: ReadonlyMap<string, Estimate>,
  predicate: (one: Estimate) => boolean,
): string | undefined {
  for (const [name, one] of members) if (!one.waits && predicate(one)) return name;
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
