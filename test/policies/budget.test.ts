import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  admitRound,
  type Calibration,
  calibrate,
  correct,
  dalyIntervalMs,
  NO_CALIBRATION,
  nextInterval,
} from '../../policies/index.ts';

const test = suite('budget, interval, calibration');

const NEED = { committedBytes: 30, stagingBytes: 60, inFlightBytes: 10 };

test('a round that fits the budget to the byte is admitted', () => {
  assert.equal(admitRound(NEED, 100), { admit: true, freeBytes: 0 });
});

test('with a byte less, the refusal names that byte as missing', () => {
  const decision = admitRound(NEED, 99);
  assert.is(decision.admit, false);
  if (decision.admit) return;
  assert.is(decision.missingBytes, 1);
  assert.is(decision.never, false);
  assert.match(decision.reason, /epochs hold 30.*budget is 99: 1 are missing/);
});

test('a budget too small even without epochs is reported as such', () => {
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

test('the first checkpoint is taken at once, to measure the cost; none within a second', () => {
  const optimal = { kind: 'optimal', mtbfMs: 60_000 } as const;
  assert.is(nextInterval(optimal, undefined).ms, 0);
  assert.is(nextInterval(optimal, 0.001).ms, 1000);
  assert.ok(nextInterval(optimal, 100).ms > 3000);
  assert.is(nextInterval({ kind: 'optimal', mtbfMs: 1e15 }, 1000).ms, 86_400_000);
});

function round(clusterDowntimeMs: number, rawPredictedMs: number, predictedMs = rawPredictedMs) {
  return { clusterDowntimeMs, rawPredictedMs, predictedMs };
}

function learned(...rounds: readonly ReturnType<typeof round>[]): Calibration {
  return rounds.reduce(calibrate, NO_CALIBRATION);
}

function corrected(rawMs: number, { fit }: Calibration): number {
  return Math.round(correct(rawMs, fit));
}

test('without earlier rounds the raw prediction is used', () => {
  assert.is(correct(123, NO_CALIBRATION.fit), 123);
});

test('raw predictions that tell rounds apart are used, with an offset', () => {
  const known = learned(...[10, 50, 200, 400, 90].map((raw) => round(raw + 30, raw)));
  assert.is(Math.round((known.fit?.slope ?? 0) * 100), 100);
  assert.is(corrected(100, known), 130);
});

test('where raw predictions were noise, the cost of such rounds is the prediction', () => {
  const raws = [10, 90, 20, 80, 15, 85];
  const known = learned(...raws.map((raw, index) => round(70 + (index % 3), raw)));
  assert.ok(Math.abs(corrected(15, known) - 71) < 5);
  assert.ok(Math.abs(corrected(85, known) - 71) < 5);
});

test('beyond the range seen the slope is 1; below it a proportional share is kept', () => {
  const known = learned(...[10, 90, 20, 80, 15, 85].map((raw) => round(70, raw)));
  assert.is(corrected(5000, known), 70 + 5000 - 90);
  const late = learned(...[760, 900, 800, 850, 780].map((raw) => round(300, raw)));
  assert.is(corrected(700, late), 276);
  assert.ok(corrected(5, late) <= 5);
});

test('a live stream slower than the drain is calibrated for, and never overcorrected', () => {
  let known = NO_CALIBRATION;
  for (let count = 0; count < 6; count++) {
    assert.is(corrected(510, known), count === 0 ? 510 : 110);
    known = calibrate(known, round(110, 510));
    assert.ok(corrected(50, known) >= 5);
    assert.ok(corrected(600, known) > 110);
  }
});

test('one odd round changes little', () => {
  const usual = Array.from({ length: 8 }, () => round(60, 40));
  assert.ok(Math.abs(corrected(40, learned(...usual, round(5000, 41))) - 60) <= 1);
});

test('the error of predictions is tracked, the last rounds only', () => {
  let known = calibrate(NO_CALIBRATION, round(100, 10));
  assert.is(known.errorMedian, 0.9);
  for (let count = 0; count < 12; count++) known = calibrate(known, round(100, 80));
  assert.ok(Math.abs((known.errorMedian ?? 0) - 0.2) < 1e-9);
  assert.is(known.rounds.length, 12);
});

test.run();
