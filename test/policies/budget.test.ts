import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  admitRound,
  dalyIntervalMs,
  learn,
  NO_CALIBRATION,
  nextInterval,
} from '../../policies/index.ts';

const test = suite('budget, interval, calibration');

const NEED = { committedBytes: 30, stagingBytes: 60, inFlightBytes: 10 };

test('a round that fits the budget to the byte is admitted', () => {
  assert.equal(admitRound(NEED, 100), { admit: true, freeBytes: 0 });
});

test('a byte less, and that byte is missing', () => {
  const decision = admitRound(NEED, 99);
  assert.is(decision.admit, false);
  if (decision.admit) return;
  assert.is(decision.missingBytes, 1);
  assert.is(decision.never, false);
  assert.match(decision.reason, /epochs hold 30.*budget is 99: 1 are missing/);
});

test('a budget no removal of epochs can make do is told apart', () => {
  const decision = admitRound(NEED, 69);
  assert.ok(!decision.admit && decision.never && decision.missingBytes === 31);
});

test('without a budget, the host’s memory is the limit', () => {
  assert.ok(admitRound(NEED, undefined).admit);
});

test('a fixed period is kept', () => {
  assert.is(nextInterval({ kind: 'fixed', everyMs: 5000 }, 123).ms, 5000);
});

test('the optimum is Daly’s', () => {
  // C = 5 min, M = 24 h: Young's 120 minutes, less the checkpoint itself, and a little more.
  const [cost, mtbf] = [5 * 60_000, 24 * 3_600_000];
  const young = Math.sqrt(2 * cost * mtbf);
  const daly = dalyIntervalMs(cost, mtbf);
  assert.ok(Math.abs(young / 60_000 - 120) < 0.1);
  assert.ok(Math.abs(daly / 60_000 - 116.7) < 0.1, `${daly / 60_000} min`);
  assert.is(dalyIntervalMs(2 * mtbf, mtbf), mtbf);
});

test('the first checkpoint is taken at once, to learn what one costs; none comes within a second', () => {
  const optimal = { kind: 'optimal', mtbfMs: 60_000 } as const;
  assert.is(nextInterval(optimal, undefined).ms, 0);
  assert.is(nextInterval(optimal, 0.001).ms, 1000);
  assert.ok(nextInterval(optimal, 100).ms > 3000);
});

function round(drainMs: number, clusterDowntimeMs: number, predictedMs?: number) {
  const drain = { drainBytes: 10e6, drainMs, downtimeMs: drainMs + 5 };
  return { members: new Map([['a', drain]]), clusterDowntimeMs, predictedMs };
}

test('drains teach their speed, and what they do not explain', () => {
  let known = NO_CALIBRATION;
  for (const [drain, downtime] of [
    [10, 20],
    [12, 22],
    [8, 18],
  ] as const) {
    known = learn(known, round(drain, downtime));
  }
  const a = known.members.get('a');
  assert.is(a?.drainBandwidth, 1e9);
  assert.is(a?.switchoverMs, 5);
  assert.is(known.overheadMs, 5);
  assert.is(known.errorMedian, undefined);
});

test('the error of predictions is tracked, the last rounds only', () => {
  let known = learn(NO_CALIBRATION, round(10, 100, 10));
  assert.is(known.errorMedian, 0.9);
  for (let count = 0; count < 8; count++) known = learn(known, round(10, 100, 80));
  assert.ok(Math.abs((known.errorMedian ?? 0) - 0.2) < 1e-9);
  assert.is(known.rounds.length, 8);
});

test('drains too short to tell teach no speed', () => {
  const drain = { drainBytes: 1000, drainMs: 1, downtimeMs: 12 };
  const { members } = learn(NO_CALIBRATION, {
    members: new Map([['a', drain]]),
    clusterDowntimeMs: 12,
    predictedMs: undefined,
  });
  assert.is(members.get('a')?.drainBandwidth, undefined);
  assert.is(members.get('a')?.switchoverMs, 12);
});

test.run();
