/**
 * Whose stream flows now? PURE: estimates and time in, the members that may stream out. The others run
 * on, unread: a page they rewrite while they wait is sent once, not once a pass.
 *
 *     parallel          all at once. Members past their first pass are extended (MPLM's word): they
 *                       stream on, in a share of the slots, so that pages sent for the first time
 *                       and pages sent again alternate on the host as MTD alternates them in a VM
 *     round-robin       so many at a time, a slot each, in turn
 *     finish-together   so many at a time, those with the most still to send; the one with the least
 *                       memory is kept for last. When all others have sent theirs, they send what
 *                       they rewrote meanwhile, once, and only then its turn comes: the last first
 *                       pass is a short one, and what is dirtied during it is all that is left
 *
 * When every member has finished its first pass, all flow, whatever the policy: what is left is to
 * close in on the end.
 */
import type { Estimate } from './estimator.ts';

export type Multiplexing =
  | { readonly kind: 'parallel'; readonly slotMs: number; readonly dirtyShare: number }
  | { readonly kind: 'round-robin'; readonly slotMs: number; readonly atOnce: number }
  | { readonly kind: 'finish-together'; readonly slotMs: number; readonly atOnce: number };

export interface SlotDecision {
  /** Members whose stream may flow. */
  readonly open: ReadonlySet<string>;
  readonly reason: string;
}

/** Members are as good as level when one has this share of what another has still to send. */
const LEVEL = 0.95;
/** Whose third pass has begun has sent what it rewrote during its first. */
const CAUGHT_UP_PASS = 3;

/**
 * @param elapsedMs since the live phase began
 * @param memoryBound times its RAM, no member streams more: nobody waits for one that has
 */
export function chooseSlots(
  members: ReadonlyMap<string, Estimate>,
  elapsedMs: number,
  policy: Multiplexing,
  memoryBound = Number.POSITIVE_INFINITY,
): SlotDecision {
  const unfinished: string[] = [];
  const finished: string[] = [];
  for (const [name, { waits, firstPassDone }] of members) {
    if (!waits) (firstPassDone ? finished : unfinished).push(name);
  }
  if (unfinished.length === 0) {
    return { open: new Set(members.keys()), reason: 'all have sent their memory once' };
  }
  const slot = Math.floor(elapsedMs / policy.slotMs);
  switch (policy.kind) {
    case 'parallel': {
      const extended = isDirtySlot(slot, policy.dirtyShare) ? finished : [];
      return { open: new Set([...unfinished, ...extended]), reason: 'all at once' };
    }
    case 'round-robin': {
      const turn = inTurn(unfinished, slot, policy.atOnce);
      return { open: new Set(turn), reason: `the turn of ${turn.join(', ')}` };
    }
    case 'finish-together':
      return finishTogether(members, unfinished, { slot, atOnce: policy.atOnce, memoryBound });
  }
}

interface Slot {
  readonly slot: number;
  readonly atOnce: number;
  readonly memoryBound: number;
}

function finishTogether(
  members: ReadonlyMap<string, Estimate>,
  unfinished: readonly string[],
  { slot, atOnce, memoryBound }: Slot,
): SlotDecision {
  const last = keptForLast(members);
  const before = unfinished.filter((name) => name !== last);
  if (before.length > 0) {
    return { open: furthestBehind(members, before, slot, atOnce), reason: 'most to send' };
  }
  const behind = [...members].filter(([name, { waits, keptBack, passes, liveBytes, ramBytes }]) => {
    const canStream = !waits && !keptBack && liveBytes < memoryBound * ramBytes;
    return name !== last && canStream && passes < CAUGHT_UP_PASS;
  });
  if (behind.length > 0) {
    const open = inTurn(
      behind.map(([name]) => name),
      slot,
      atOnce,
    );
    return { open: new Set(open), reason: 'what was rewritten meanwhile' };
  }
  return { open: new Set(members.keys()), reason: `${last} is the last` };
}

/** The member whose first pass is shortest; undefined while some are not known yet. */
function keptForLast(members: ReadonlyMap<string, Estimate>): string | undefined {
  let last: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const [name, { waits, ramBytes }] of members) {
    if (waits) continue;
    if (ramBytes === 0) return undefined;
    if (ramBytes < least) [last, least] = [name, ramBytes];
  }
  return last;
}

/** Spreads a share of the slots evenly: of 0.5 every second one, of 0.25 every fourth. */
function isDirtySlot(slot: number, share: number): boolean {
  return Math.floor((slot + 1) * share) > Math.floor(slot * share);
}

function furthestBehind(
  members: ReadonlyMap<string, Estimate>,
  unfinished: readonly string[],
  slot: number,
  atOnce: number,
): ReadonlySet<string> {
  const left = Float64Array.from(unfinished, (name) => toSend(members.get(name)));
  // Numbers alone are sorted natively: by a function, that is most of what a look at thousands costs.
  const enough = left.slice().sort().at(-atOnce) ?? 0;
  const ahead = unfinished.filter((_, at) => (left[at] ?? 0) * LEVEL > enough);
  // Those as good as level take turns: otherwise each look would choose another of them.
  const level = unfinished.filter((_, at) => {
    const bytes = left[at] ?? 0;
    return bytes * LEVEL <= enough && bytes >= enough * LEVEL;
  });
  return new Set([...ahead, ...inTurn(level, slot, atOnce - ahead.length)]);
}

/** So many of them in this slot, the next in the next. */
function inTurn<T>(all: readonly T[], slot: number, count: number): T[] {
  const most = Math.min(count, all.length);
  const first = (slot * most) % Math.max(1, all.length);
  return [...all.slice(first), ...all.slice(0, first)].slice(0, most);
}

/** A member nothing is known of yet counts as the largest: it must be heard to be known. */
function toSend(one: Estimate | undefined): number {
  if (one === undefined || one.ramBytes === 0) return Number.POSITIVE_INFINITY;
  return one.firstPassBytes;
}
