import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Estimate, estimate, type LiveSample, nothingKnown } from '../../policies/index.ts';

const MIB = 2 ** 20;

/** Returns a sample of a member that has read `mebibytes` in `flowedMs`. */
function sample(flowedMs: number, mebibytes: number, more: Partial<LiveSample> = {}): LiveSample {
  return {
    atMs: 0,
    bytes: mebibytes * MIB,
    flowedMs,
    seenPages: 100,
    totalPages: 100,
    normalPages: 100,
    zeroPages: 0,
    passes: 2,
    passAtMs: 0,
    waits: false,
    keptBack: false,
    remainingBytes: undefined,
    passBytes: undefined,
    dirtyBytesPerSecond: undefined,
    ...more,
  };
}

function after(...samples: readonly LiveSample[]): Estimate {
  let now = nothingKnown();
  for (const one of samples) now = estimate(now, one);
  return now;
}

const test = suite('estimator');

test('downtime is the time of the remaining bytes at the stream’s best speed', () => {
  const { bandwidth, downtimeMs } = after(
    sample(0, 0),
    sample(100, 100),
    sample(200, 200, { remainingBytes: 50 * MIB }),
  );
  assert.is(bandwidth, 1000 * MIB);
  assert.is(downtimeMs, 60); // 50 ms for what remains, 10 for the switchover
});

test('before its first page, a member’s RAM is taken to be its reservation', () => {
  const before = estimate(nothingKnown(5 * MIB), sample(0, 0, { passes: 0, totalPages: 0 }));
  assert.is(before.ramBytes, 5 * MIB);
  assert.is(before.firstPassBytes, 5 * MIB);
  assert.not(before.firstPassDone);
});

test('time in which a member was held does not make it slow', () => {
  const held = after(sample(0, 0), sample(100, 100), sample(100, 100), sample(100, 100));
  assert.is(held.bandwidth, 1000 * MIB);
});

test('an old speed counts for less in time', () => {
  const slow = Array.from({ length: 40 }, (_, index) =>
    sample(200 + 100 * index, 110 + 10 * index),
  );
  assert.is(after(sample(0, 0), sample(100, 100), ...slow).bandwidth, 100 * MIB);
});

test('too little data to measure is measured together with the next', () => {
  const crumbs = Array.from({ length: 10 }, (_, index) => sample(index, index));
  assert.is(Math.round((after(...crumbs).bandwidth ?? 0) / MIB), 1000);
  assert.is(after(sample(0, 0), sample(1, 100)).bandwidth, undefined);
});

test('writes since the pass began remain, too, up to the working set', () => {
  const second = sample(10, 10, { passes: 2, passAtMs: 1000, passBytes: 30 * MIB });
  const third = { passes: 3, passAtMs: 1200, passBytes: 10 * MIB };
  const at = (atMs: number, remainingBytes: number) => {
    const now = sample(20, 20, { ...third, atMs, remainingBytes });
    return Math.round((after(second, now).remainingBytes ?? 0) / MIB);
  };
  assert.is(at(1200, 10 * MIB), 10);
  assert.is(at(1300, 4 * MIB), 9); // 50 MiB a second, for a tenth of one
  assert.is(at(9999, 4 * MIB), 30);
});

test('an unknown value stays unknown', () => {
  const { bandwidth, downtimeMs, dirtyBytesPerSecond } = after(sample(0, 0));
  assert.equal([bandwidth, downtimeMs, dirtyBytesPerSecond], [undefined, undefined, undefined]);
});

test('the dirty rate is a pass’s bytes over the time since the pass before', () => {
  const second = sample(10, 10, { passes: 2, passAtMs: 1000, passBytes: 30 * MIB });
  const third = sample(20, 20, { passes: 3, passAtMs: 1200, passBytes: 10 * MIB });
  const now = after(second, third);
  assert.is(now.dirtyBytesPerSecond, 50 * MIB);
  assert.is(now.workingSetBytes, 30 * MIB);
});

test('passes missed between two samples do not change the rate', () => {
  const second = sample(10, 10, { passes: 2, passAtMs: 1000, dirtyBytesPerSecond: 7 });
  const ninth = sample(20, 20, { passes: 9, passAtMs: 1200, passBytes: 10 * MIB });
  assert.is(after(second, ninth).dirtyBytesPerSecond, 7);
});

test('the rest of the first pass does not count its share of zero pages', () => {
  const half = { passes: 1, seenPages: 40, totalPages: 100, normalPages: 10, zeroPages: 30 };
  assert.is(after(sample(0, 0, half)).firstPassBytes, 60 * 4096 * 0.25);
  assert.is(after(sample(0, 0)).firstPassBytes, 0);
});

test('pages sent again are counted', () => {
  const more = { seenPages: 100, normalPages: 130, zeroPages: 20 };
  assert.is(after(sample(0, 0, more)).repeatedPages, 50);
});

test('the first pass is done by the count of pages, or when QEMU says so', () => {
  const done = (more: Partial<LiveSample>) => after(sample(0, 0, more)).firstPassDone;
  assert.ok(done({ passes: 1, seenPages: 100 }));
  assert.ok(done({ passes: 2, seenPages: 3 }));
  assert.not(done({ passes: 1, seenPages: 99 }));
  assert.not(done({ passes: 1, seenPages: 0, totalPages: 0 }));
});

test.run();
