/** Estimates of invented members, for tests of decisions. */
import { type Estimate, estimate, nothingKnown } from '../../policies/index.ts';

const MIB = 2 ** 20;

const SAMPLE = {
  atMs: 0,
  bytes: 100,
  flowedMs: 0,
  seenPages: 100,
  totalPages: 100,
  normalPages: 100,
  zeroPages: 0,
  passes: 2,
  passAtMs: 0,
  waits: false,
  keptBack: false,
  remainingBytes: 0,
  passBytes: undefined,
  dirtyBytesPerSecond: undefined,
};

/** Returns an estimate: first pass done, 30 ms of downtime, with the given changes. */
function member(change: Partial<Estimate> = {}): Estimate {
  const made = estimate(nothingKnown(), SAMPLE);
  return { ...made, ramBytes: 100, bandwidth: 1000 * MIB, downtimeMs: 30, ...change };
}

export const EARLY = { firstPassDone: false, firstPassBytes: 50 };
export const WAITING = { firstPassDone: false, waits: true, downtimeMs: undefined };

export function members(...changes: readonly Partial<Estimate>[]): Map<string, Estimate> {
  return new Map(changes.map((change, index) => [`n${index}`, member(change)]));
}
