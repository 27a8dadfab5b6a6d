/**
 * A member's estimate, updated by its samples. PURE: an estimate and a sample in, the next estimate
 * out, so that a tick over thousands of members walks through no history. The given estimate is
 * updated in place: a new object for every sample of thousands of members would keep the garbage
 * collector busier than the policies are.
 *
 *     bandwidth    bytes ÷ time in which the stream was read. Time in which it was held does not
 *                  count, or a waiting member would look too slow to stop. The best of the last
 *                  seconds, for after a stop the rest flows undisturbed by the guest
 *     remaining    QEMU's own count of dirty and unsent bytes (query-migrate, ram.remaining), plus
 *                  what was dirtied since the pass began, which QEMU counts only when the next one
 *                  begins: rate × time, at most the working set less what is unsent
 *     dirty rate   bytes a pass found dirty ÷ the time since the pass before it; QEMU's own figure
 *                  (dirty-pages-rate) comes once a second, later than most live phases end
 *     working set  the most that one pass has found dirty: what is written again and again
 *     downtime     remaining ÷ bandwidth, plus what every switchover takes
 *
 * Earlier rounds correct the cluster's prediction, not a member's (calibration.ts).
 */

export interface LiveSample {
  /** Time of the sample, milliseconds of any monotonic clock. */
  readonly atMs: number;
  /** Bytes streamed so far. */
  readonly bytes: number;
  /** Milliseconds of the live phase in which the stream was read. */
  readonly flowedMs: number;
  /** Pages sent at least once, of all there are (0: not known yet). */
  readonly seenPages: number;
  readonly totalPages: number;
  /** Page records so far, with content and without: a page sent twice counts twice. */
  readonly normalPages: number;
  readonly zeroPages: number;
  /** QEMU's passes over dirty memory; the second begins when the first is done. */
  readonly passes: number;
  /** Time at which the present pass began, by the clock of `atMs`. */
  readonly passAtMs: number;
  /** True for a member without a live phase: it waits to be stopped (capture stop-copy). */
  readonly waits: boolean;
  /** True while its stream is held, a little of the first pass unsent, until the end. */
  readonly keptBack: boolean;
  /** Bytes dirty and unsent; undefined until QEMU has said. */
  readonly remainingBytes: number | undefined;
  /** Bytes the present pass found dirty; undefined in the first, and until QEMU has said. */
  readonly passBytes: number | undefined;
  /** Bytes the guest dirties a second, by QEMU; undefined until it has measured. */
  readonly dirtyBytesPerSecond: number | undefined;
}

export interface Estimate {
  /** True once it has sent its memory, or as much of it as it will while it runs. */
  readonly firstPassDone: boolean;
  readonly waits: boolean;
  /** True if it can send no more before the stop. */
  readonly keptBack: boolean;
  readonly passes: number;
  readonly passAtMs: number;
  readonly liveBytes: number;
  readonly ramBytes: number;
  /** Bytes of the first pass still to come; all of it while nothing is known. */
  readonly firstPassBytes: number;
  /** Bytes to send if it stopped now; undefined until QEMU has said. */
  readonly remainingBytes: number | undefined;
  readonly dirtyBytesPerSecond: number | undefined;
  readonly workingSetBytes: number;
  /** Pages sent again after they had been sent once. */
  readonly repeatedPages: number;
  /** Bytes a second while its stream is read; undefined until enough has been. */
  readonly bandwidth: number | undefined;
  /** Milliseconds from a stop now to the last byte; undefined while it is unknown. */
  readonly downtimeMs: number | undefined;
  /** Point at which the present measurement of bandwidth began. */
  readonly markBytes: number;
  readonly markFlowedMs: number;
}

type Open<T> = { -readonly [Key in keyof T]: T[Key] };

/** Time of a switchover with nothing left to send: device state, votes and commands. */
const SWITCHOVER_MS = 10;
/** Least time and bytes from which a speed is measured. */
const LEAST_FLOW_MS = 5;
const LEAST_BYTES = 256 * 1024;
/** Weight of the best bandwidth so far, for each measurement that follows it. */
const FADING = 0.9;
const PAGE_BYTES = 4096;

/**
 * Returns the estimate of a member without samples.
 * @param ramBytes memory reserved for it, if that is known
 */
export function nothingKnown(ramBytes = 0): Estimate {
  return {
    firstPassDone: false,
    waits: false,
    keptBack: false,
    passes: 0,
    passAtMs: 0,
    liveBytes: 0,
    ramBytes,
    firstPassBytes: ramBytes,
    remainingBytes: undefined,
    dirtyBytesPerSecond: undefined,
    workingSetBytes: 0,
    repeatedPages: 0,
    bandwidth: undefined,
    downtimeMs: undefined,
    markBytes: 0,
    markFlowedMs: 0,
  };
}

/**
 * Updates an estimate by a sample.
 * @param before the member's last estimate; it is overwritten
 * @returns the estimate that takes its place
 */
export function estimate(before: Estimate, now: LiveSample): Estimate {
  const next: Open<Estimate> = before;
  next.dirtyBytesPerSecond = dirtyRate(before, now);
  next.workingSetBytes = Math.max(before.workingSetBytes, now.passBytes ?? 0);
  measureBandwidth(next, now);
  next.firstPassDone = isFirstPassDone(now);
  next.waits = now.waits;
  next.keptBack = now.keptBack;
  next.passes = now.passes;
  next.passAtMs = now.passAtMs;
  next.liveBytes = now.bytes;
  // Until the stream has listed its pages, only the reservation says how much memory it has.
  if (now.totalPages > 0) {
    next.ramBytes = now.totalPages * PAGE_BYTES;
    next.firstPassBytes = firstPassBytes(now);
  }
  next.remainingBytes = remaining(next, now);
  next.repeatedPages = Math.max(0, now.normalPages + now.zeroPages - now.seenPages);
  const { remainingBytes: left, bandwidth } = next;
  const known = left !== undefined && bandwidth !== undefined;
  next.downtimeMs = known ? (left / bandwidth) * 1000 + SWITCHOVER_MS : undefined;
  return next;
}

/** Returns the bytes unsent, plus what the next pass would find if it began now. */
function remaining(
  { dirtyBytesPerSecond, workingSetBytes, firstPassDone }: Estimate,
  { remainingBytes, atMs, passAtMs }: LiveSample,
): number | undefined {
  if (remainingBytes === undefined || dirtyBytesPerSecond === undefined || !firstPassDone) {
    return remainingBytes;
  }
  const written = (dirtyBytesPerSecond * Math.max(0, atMs - passAtMs)) / 1000;
  const most = Math.max(0, workingSetBytes - remainingBytes);
  return remainingBytes + Math.min(written, most);
}

function isFirstPassDone({ passes, seenPages, totalPages, keptBack }: LiveSample): boolean {
  return keptBack || passes >= 2 || (totalPages > 0 && seenPages >= totalPages);
}

/** Returns the bytes left of the first pass. The share of zero pages is taken to stay as it was. */
function firstPassBytes(now: LiveSample): number {
  if (isFirstPassDone(now)) return 0;
  const records = now.normalPages + now.zeroPages;
  const share = records === 0 ? 1 : now.normalPages / records;
  return (now.totalPages - now.seenPages) * PAGE_BYTES * share;
}

function measureBandwidth(next: Open<Estimate>, { bytes, flowedMs }: LiveSample): void {
  const flowed = flowedMs - next.markFlowedMs;
  const sent = bytes - next.markBytes;
  if (flowed < LEAST_FLOW_MS || sent < LEAST_BYTES) return;
  const measured = (sent / flowed) * 1000;
  next.bandwidth = Math.max(measured, (next.bandwidth ?? 0) * FADING);
  next.markBytes = bytes;
  next.markFlowedMs = flowedMs;
}

function dirtyRate(before: Estimate, now: LiveSample): number | undefined {
  if (now.passBytes === undefined) return before.dirtyBytesPerSecond ?? now.dirtyBytesPerSecond;
  const elapsedMs = now.passAtMs - before.passAtMs;
  const counted = now.passes === before.passes + 1 && elapsedMs >= LEAST_FLOW_MS;
  if (!counted) return before.dirtyBytesPerSecond ?? now.dirtyBytesPerSecond;
  return (now.passBytes / elapsedMs) * 1000;
}
