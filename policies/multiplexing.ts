/**
 * The choice of streams that flow now. PURE: estimates and time in, the members that may stream
 * out. The others keep running and are not read: a page they rewrite meanwhile is sent once, not
 * once a pass.
 *
 *     parallel          all at once. Members past their first pass are extended (MPLM): they
 *                       still stream, in a share of the slots, so that pages sent the first time
 *                       and pages sent again alternate on the host as MTD alternates them in a VM
 *     round-robin       `atOnce` at a time, a slot each, in turn
 *     finish-together   `atOnce` at a time, those with the most still to send. The member with the
 *                       least memory comes last: when all others have sent theirs, and once
 *                       what they rewrote meanwhile. The last first pass is a short one, and what
 *                       is dirtied during it is all that is left
 *
 * When every member has finished its first pass, all flow, whatever the policy, to close in on the
 * end.
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

/** Members count as level when one has at least this share of what another has still to send. */
const LEVEL = 0.95;
/** A member in this pass has sent what it rewrote during its first. */
const CAUGHT_UP_PASS = 3;

/**
 * Chooses the members that may stream now.
 * @param elapsedMs milliseconds since the live phase began
 * @param memoryBound no member streams more than this many times its RAM; none waits for one that
 * has
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

/** Returns the member with the shortest first pass; undefined while some are not known yet. */
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
  // Without a function, numbers are sorted natively. With one, it is most of a tick over thousands.
  const enough = left.slice().sort().at(-atOnce) ?? 0;
  const ahead = unfinished.filter((_, at) => (left[at] ?? 0) * LEVEL > enough);
  // Level members take turns: otherwise each tick would choose another of them.
  const level = unfinished.filter((_, at) => {
    const bytes = left[at] ?? 0;
    return bytes * LEVEL <= enough && bytes >= enough * LEVEL;
  });
  return new Set([...ahead, ...inTurn(level, slot, atOnce - ahead.length)]);
}

/** Returns the `count` members whose turn this slot is. */
function inTurn<T>(all: readonly T[], slot: number, count: number): T[] {
  const most = Math.min(count, all.length);
  const first = (slot * most) % Math.max(1, all.length);
  return [...all.slice(first), ...all.slice(0, first)].slice(0, most);
}

/** Returns the bytes left to send. An unknown member counts as the largest, so that it is heard. */
function toSend(one: Estimate | undefined): number {
  if (one === undefined || one.ramBytes === 0) return Number.POSITIVE_INFINITY;
  return one.firstPassBytes;
}
