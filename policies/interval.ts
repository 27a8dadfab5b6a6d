/**
 * The time until the next checkpoint. PURE.
 *
 *     fixed     at a fixed period
 *     optimal   from the cost of a checkpoint and the rate of failures. With C the cost and M
 *               the mean time between failures (J. T. Daly, "A higher order estimate of the optimum
 *               checkpoint interval for restart dumps", FGCS 22, 2006, equation 37):
 *
 *                   √(2CM) · (1 + ⅓·√(C/2M) + ⅑·C/2M) − C     for C < 2M
 *                   M                                          otherwise
 *
 *               The first term alone is Young's (CACM 17, 1974).
 */

export type Interval =
  | { readonly kind: 'fixed'; readonly everyMs: number }
  | { readonly kind: 'optimal'; readonly mtbfMs: number };

/** The least interval, however little a checkpoint costs. */
export const LEAST_INTERVAL_MS = 1_000;
/** The greatest interval: hosts that never fail are hosts that were never measured. */
const MOST_INTERVAL_MS = 86_400_000;

/**
 * Returns the time from the end of the last checkpoint to the next, milliseconds, and the reason.
 * @param costMs cost of one checkpoint to the job; undefined before the first: it is taken at once
 */
export function nextInterval(
  interval: Interval,
  costMs: number | undefined,
): { readonly ms: number; readonly reason: string } {
  if (interval.kind === 'fixed') return { ms: interval.everyMs, reason: 'as configured' };
  if (costMs === undefined) return { ms: 0, reason: 'to measure what a checkpoint costs' };
  const best = dalyIntervalMs(costMs, interval.mtbfMs);
  const ms = Math.min(MOST_INTERVAL_MS, Math.max(LEAST_INTERVAL_MS, best));
  const cost = `a checkpoint costs ${Math.round(costMs)} ms`;
  return { ms, reason: `${cost}, failures are ${interval.mtbfMs} ms apart` };
}

/** Returns Daly's optimum, milliseconds (equation 37 of the paper above). */
export function dalyIntervalMs(costMs: number, mtbfMs: number): number {
  if (costMs >= 2 * mtbfMs) return mtbfMs;
  const ratio = costMs / (2 * mtbfMs);
  return Math.sqrt(2 * costMs * mtbfMs) * (1 + Math.sqrt(ratio) / 3 + ratio / 9) - costMs;
}
