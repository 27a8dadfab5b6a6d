/**
 * What a member's samples tell about it. PURE: an estimate and a sample in, the next estimate out, so
 * that a look at thousands of members costs no walk through their past.
 *
 *     bandwidth    bytes ÷ time in which its stream was read: the time it was held does not count,
 *                  or a member that waits would be thought too slow to stop. The best of the last
 *                  seconds, for what remains after a stop flows undisturbed by the guest
 *     remaining    QEMU's own count of what is dirty and unsent (query-migrate, ram.remaining)
 *     dirty rate   what a pass found dirty ÷ the time since the pass before it; QEMU's own
 *                  (dirty-pages-rate) comes once a second, later than most live phases end
 *     working set  the most that one pass has found dirty: what is written again and again
 *     downtime     remaining ÷ bandwidth, and what every switchover takes
 *
 * What earlier rounds have taught (calibration.ts) replaces bandwidth and switchover.
 */

export interface LiveSample {
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
  /** When the present pass began, milliseconds of any monotonic clock. */
  readonly passAtMs: number;
  /** It has no live phase: it stands ready to be stopped (capture mode stop-copy). */
  readonly waits: boolean;
  /** Bytes dirty and unsent; undefined until QEMU has said. */
  readonly remainingBytes: number | undefined;
  /** Bytes the present pass found dirty; undefined in the first, and until QEMU has said. */
  readonly passBytes: number | undefined;
  /** Bytes the guest dirties a second, by QEMU; undefined until it has measured. */
  readonly dirtyBytesPerSecond: number | undefined;
}

/** What earlier rounds have taught about a member. */
export interface Experience {
  /** Bytes a second of its drains; undefined while none was long enough to tell. */
  readonly drainBandwidth: number | undefined;
  /** Milliseconds a switchover takes besides sending what remains. */
  readonly switchoverMs: number;
}

export interface Estimate {
  readonly firstPassDone: boolean;
  readonly waits: boolean;
  readonly passes: number;
  readonly liveBytes: number;
  readonly ramBytes: number;
  /** Bytes of the first pass still to come; all of it while nothing is known. */
  readonly firstPassBytes: number;
  readonly remainingBytes: number | undefined;
  readonly dirtyBytesPerSecond: number | undefined;
  readonly workingSetBytes: number;
  /** Pages sent again after they had been sent once. */
  readonly repeatedPages: number;
  /** Bytes a second while its stream is read; undefined until enough has been. */
  readonly bandwidth: number | undefined;
  /** Milliseconds from a stop now to the last byte; undefined while it cannot be told. */
  readonly downtimeMs: number | undefined;
  /** The sample it was made of. */
  readonly last: LiveSample;
  /** Where the present measurement of bandwidth began. */
  readonly mark: Mark;
}

interface Mark {
  readonly bytes: number;
  readonly flowedMs: number;
}

export const NO_EXPERIENCE: Experience = { drainBandwidth: undefined, switchoverMs: 10 };

/** Less than this tells nothing about speed. */
const LEAST_FLOW_MS = 5;
const LEAST_BYTES = 256 * 1024;
/** A better past counts for less with every measurement that follows it. */
const FADING = 0.9;
const PAGE_BYTES = 4096;

/** @param before the member's last estimate; undefined at its first sample */
export function estimate(
  before: Estimate | undefined,
  now: LiveSample,
  experience: Experience = NO_EXPERIENCE,
): Estimate {
  const { bandwidth, mark } = measureBandwidth(before, now);
  const dirtyBytesPerSecond = measureDirtyRate(before, now);
  const { remainingBytes } = now;
  const speed = experience.drainBandwidth ?? bandwidth;
  const known = remainingBytes !== undefined && speed !== undefined;
  return {
    firstPassDone: isFirstPassDone(now),
    waits: now.waits,
    passes: now.passes,
    liveBytes: now.bytes,
    ramBytes: now.totalPages * PAGE_BYTES,
    firstPassBytes: firstPassBytes(now),
    remainingBytes,
    dirtyBytesPerSecond,
    workingSetBytes: Math.max(before?.workingSetBytes ?? 0, now.passBytes ?? 0),
    repeatedPages: Math.max(0, now.normalPages + now.zeroPages - now.seenPages),
    bandwidth,
    downtimeMs: known ? (remainingBytes / speed) * 1000 + experience.switchoverMs : undefined,
    last: now,
    mark,
  };
}

function isFirstPassDone({ passes, seenPages, totalPages }: LiveSample): boolean {
  return passes >= 2 || (totalPages > 0 && seenPages >= totalPages);
}

/** Pages that hold nothing but zeros cost no bytes: what is to come is taken to be like what came. */
function firstPassBytes(now: LiveSample): number {
  if (isFirstPassDone(now)) return 0;
  const records = now.normalPages + now.zeroPages;
  const share = records === 0 ? 1 : now.normalPages / records;
  return (now.totalPages - now.seenPages) * PAGE_BYTES * share;
}

function measureBandwidth(
  before: Estimate | undefined,
  { bytes, flowedMs }: LiveSample,
): { readonly bandwidth: number | undefined; readonly mark: Mark } {
  if (before === undefined) return { bandwidth: undefined, mark: { bytes, flowedMs } };
  const { mark } = before;
  const flowed = flowedMs - mark.flowedMs;
  const sent = bytes - mark.bytes;
  if (flowed < LEAST_FLOW_MS || sent < LEAST_BYTES) return { bandwidth: before.bandwidth, mark };
  const measured = (sent / flowed) * 1000;
  const best = Math.max(measured, (before.bandwidth ?? 0) * FADING);
  return { bandwidth: best, mark: { bytes, flowedMs } };
}

function measureDirtyRate(before: Estimate | undefined, now: LiveSample): number | undefined {
  if (before === undefined || now.passBytes === undefined) return now.dirtyBytesPerSecond;
  const elapsedMs = now.passAtMs - before.last.passAtMs;
  const counted = now.passes === before.last.passes + 1 && elapsedMs >= LEAST_FLOW_MS;
  if (!counted) return before.dirtyBytesPerSecond ?? now.dirtyBytesPerSecond;
  return (now.passBytes / elapsedMs) * 1000;
}
