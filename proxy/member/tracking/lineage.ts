/**
 * Knowledge of a tracked VM's cuts. PURE: the ledger keeps it in a file, and the simulator has it
 * meet every fault.
 *
 *     UNKNOWN ──r sealed──▶ pending r ──committed──▶ since r ──s sealed──▶ since r, pending s
 *        ▲                                              │ ▲                     │
 *        └──── forget: all memory is captured ◀─────────┘ └── s failed ◀────────┤
 *                                              since s ◀──── committed ─────────┘
 *
 *     since r   what was written since the cut of r is marked, or owed
 *     pending s all that was owed is in the shadow of s, and s may have been published
 */
export interface Lineage {
  readonly since?: string | undefined;
  readonly pending?: string | undefined;
}

/** Nothing is known but what is marked. */
export const UNKNOWN: Lineage = {};

/** Notes that a round has sealed all that is owed. */
export function pend(lineage: Lineage, round: string): Lineage {
  return { ...lineage, pending: round };
}

/** Notes that the pending round is committed: what was owed is owed no more. */
export function commit({ since, pending }: Lineage): Lineage {
  return { since: pending ?? since };
}

/**
 * Tells what is known of what was written since a cut.
 *
 *     known     it is marked, or owed
 *     committed it is marked: the pending round was published, whose proxy did not hear of it
 *     unknown   all memory has to be captured
 */
export function knows({ since, pending }: Lineage, cut: string): 'known' | 'committed' | 'unknown' {
  if (pending === cut) return 'committed';
  return since === cut ? 'known' : 'unknown';
}
