import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { estimate, type LiveSample } from '../../policies/index.ts';

const MIB = 2 ** 20;

function sample(atMs: number, mebibytes: number, more: Partial<LiveSample> = {}): LiveSample {
  return {
    atMs,
    bytes: mebibytes * MIB,
    seenPages: 100,
    totalPages: 100,
    passes: 2,
    waits: false,
    remainingBytes: undefined,
    dirtyBytesPerSecond: undefined,
    ...more,
  };
}

const test = suite('estimator');

test('downtime is what remains at the speed the stream can have', () => {
  const history = [sample(0, 0), sample(100, 100), sample(200, 200, { remainingBytes: 50 * MIB })];
  const { bandwidth, downtimeMs } = estimate(history);
  assert.is(bandwidth, 1000 * MIB);
  assert.is(downtimeMs, 60); // 50 ms for what remains, 10 for the switchover
});

test('a member that was held is not taken for a slow one', () => {
  const history = [sample(0, 0), sample(100, 100), sample(1100, 101), sample(2100, 102)];
  assert.is(estimate(history).bandwidth, 1000 * MIB);
});

test('but speed is forgotten in time', () => {
  const history = [sample(0, 0), sample(100, 100), sample(4000, 100), sample(4100, 110)];
  assert.is(estimate(history).bandwidth, 100 * MIB);
});

test('two samples at one instant tell nothing about speed', () => {
  assert.is(estimate([sample(0, 0), sample(1, 100)]).bandwidth, undefined);
});

test('what is not known is not guessed', () => {
  const { bandwidth, downtimeMs, dirtyBytesPerSecond } = estimate([sample(0, 0)]);
  assert.equal([bandwidth, downtimeMs, dirtyBytesPerSecond], [undefined, undefined, undefined]);
});

test('the first pass is done by count or by QEMU’s word', () => {
  const done = (more: Partial<LiveSample>) => estimate([sample(0, 0, more)]).firstPassDone;
  assert.ok(done({ passes: 1, seenPages: 100 }));
  assert.ok(done({ passes: 2, seenPages: 3 }));
  assert.not(done({ passes: 1, seenPages: 99 }));
  assert.not(done({ passes: 1, seenPages: 0, totalPages: 0 }));
});

test.run();
