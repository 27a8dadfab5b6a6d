/**
 * Live passes of a tracked capture: whether pages that were written are read once more while the VM
 * runs, or left for when it stands. PURE.
 *
 *     written pages ──▶ few enough to be read in STANDING_MS ──▶ enough
 *                  └──▶ not fewer than SHRINKS of the last pass ─▶ enough: the guest is as fast
 *                  └──▶ PASSES_MAX passes were made ────────────▶ enough
 *                  └──▶ else ──▶ again
 */

/** The longest that a VM should stand for pages to be read, milliseconds. */
const STANDING_MS = 3;
/** A pass is worth it if it finds at most this share of what the last one has found. */
const SHRINKS = 0.75;
const PASSES_MAX = 5;
/** Pages read in a millisecond, before a pass has shown how many: 3 GB/s. */
const PAGES_A_MS = 700;

/** One pass: the pages it has read, and how long that took. */
export interface LivePass {
  readonly pages: number;
  readonly ms: number;
}

/**
 * Tells whether another pass is worth it.
 * @param writtenPages pages that are written and not read
 * @param passes those made in this round
 */
export function isPassWorthIt(writtenPages: number, passes: readonly LivePass[]): boolean {
  const last = passes.at(-1);
  if (passes.length >= PASSES_MAX) return false;
  if (writtenPages <= STANDING_MS * pagesAMs(passes)) return false;
  return last === undefined || writtenPages <= last.pages * SHRINKS;
}

/** Returns how many pages are read in a millisecond, from the largest pass. */
function pagesAMs(passes: readonly LivePass[]): number {
  const largest = passes.reduce<LivePass | undefined>((most, pass) => {
    return most === undefined || pass.pages > most.pages ? pass : most;
  }, undefined);
  if (largest === undefined || largest.ms <= 0 || largest.pages === 0) return PAGES_A_MS;
  return largest.pages / largest.ms;
}
