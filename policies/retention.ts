/**
 * Retention of epochs. PURE: the present epochs and the time in, those to retire out.
 *
 *     an epoch stays while any of these holds
 *       newest    it is one of the last `keep` by number; pinned ones count among them
 *       young     now − its time of commit < keepFor
 *       pinned    an operator has pinned it
 *       held      it is being read: a clone is made of it
 *
 * Nothing else counts: neither the memory epochs take, nor whether they share it. An epoch whose
 * time lies ahead (the clock was set back) is young; one whose time is unknown is not.
 */

export interface RetainedEpoch {
  readonly epoch: number;
  /** Time of commit, milliseconds since 1970; NaN if that is unknown. */
  readonly committedAtMs: number;
  readonly pinned: boolean;
  readonly held: boolean;
}

export interface RetentionPolicy {
  /** The newest so many stay; 1 at least. */
  readonly keep: number;
  /** Undefined: age is no reason to keep an epoch. */
  readonly keepForMs: number | undefined;
}

/** Returns the numbers of the epochs to retire, oldest first. */
export function epochsToRetire(
  epochs: readonly RetainedEpoch[],
  { keep, keepForMs }: RetentionPolicy,
  nowMs: number,
): number[] {
  const oldestFirst = [...epochs].sort((a, b) => a.epoch - b.epoch);
  return oldestFirst
    .slice(0, Math.max(0, oldestFirst.length - keep))
    .filter(({ pinned, held }) => !pinned && !held)
    .filter(({ committedAtMs }) => !isYoung(nowMs - committedAtMs, keepForMs))
    .map(({ epoch }) => epoch);
}

function isYoung(ageMs: number, keepForMs: number | undefined): boolean {
  return keepForMs !== undefined && ageMs < keepForMs;
}
