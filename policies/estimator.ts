/**
 * What a member's samples tell about it. PURE.
 *
 *     bandwidth   the fastest its stream was between two samples of the last seconds: while it is
 *                 held it looks slow, and would be thought too slow to stop
 *     remaining   QEMU's own count of what is dirty and unsent (query-migrate, ram.remaining)
 *     downtime    remaining ÷ bandwidth, and what every switchover takes
 */

export interface LiveSample {
  /** Milliseconds, of any monotonic clock. */
  readonly atMs: number;
  /** Bytes streamed so far. */
  readonly bytes: number;
  /** Pages sent at least once, of all there are (0: not known yet). */
  readonly seenPages: number;
  readonly totalPages: number;
  /** QEMU's passes over dirty memory; the second begins when the first is done. */
  readonly passes: number;
  /** It has no live phase: it stands ready to be stopped (capture mode stop-copy). */
  readonly waits: boolean;
  /** Bytes dirty and unsent; undefined until QEMU has said. */
  readonly remainingBytes: number | undefined;
  /** Bytes the guest dirties a second; undefined until QEMU has measured. */
  readonly dirtyBytesPerSecond: number | undefined;
}

export interface Estimate {
  readonly firstPassDone: boolean;
  readonly waits: boolean;
  readonly liveBytes: number;
  readonly ramBytes: number;
  readonly dirtyBytesPerSecond: number | undefined;
  /** Bytes a second; undefined with fewer than two samples that differ. */
  readonly bandwidth: number | undefined;
  /** Milliseconds from a stop now to the last byte; undefined while it cannot be told. */
  readonly downtimeMs: number | undefined;
}

const WINDOW_MS = 3_000;
/** Two samples closer than this tell nothing about speed. */
const LEAST_INTERVAL_MS = 20;
/** Device state, votes and commands: what a switchover takes when nothing is left to send. */
const SWITCHOVER_MS = 10;
const PAGE_BYTES = 4096;

/** @param history oldest first, not empty; the last one is the present */
export function estimate(history: readonly LiveSample[]): Estimate {
  const now = history.at(-1);
  if (now === undefined) throw new RangeError('no sample');
  const bandwidth = peakBandwidth(history, now.atMs - WINDOW_MS);
  const { remainingBytes } = now;
  const known = remainingBytes !== undefined && bandwidth !== undefined;
  return {
    firstPassDone: isFirstPassDone(now),
    waits: now.waits,
    liveBytes: now.bytes,
    ramBytes: now.totalPages * PAGE_BYTES,
    dirtyBytesPerSecond: now.dirtyBytesPerSecond,
    bandwidth,
    downtimeMs: known ? (remainingBytes / bandwidth) * 1000 + SWITCHOVER_MS : undefined,
  };
}

function isFirstPassDone({ passes, seenPages, totalPages }: LiveSample): boolean {
  return passes >= 2 || (totalPages > 0 && seenPages >= totalPages);
}

function peakBandwidth(history: readonly LiveSample[], sinceMs: number): number | undefined {
  let peak = 0;
  let before: LiveSample | undefined;
  for (const sample of history) {
    if (sample.atMs < sinceMs) continue;
    const elapsedMs = before === undefined ? 0 : sample.atMs - before.atMs;
    if (before !== undefined && elapsedMs < LEAST_INTERVAL_MS) continue;
    if (before !== undefined) {
      peak = Math.max(peak, ((sample.bytes - before.bytes) / elapsedMs) * 1000);
    }
    before = sample;
  }
  return peak > 0 ? peak : undefined;
}
