import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  admitRound,
  type Calibration,
  correct,
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

function round(drainMs: number, clusterDowntimeMs: number, rawPredictedMs?: number) {
  const drain = { drainBytes: 10e6, drainMs, downtimeMs: drainMs + 5 };
  const members = new Map([['a', drain]]);
  return { members, clusterDowntimeMs, rawPredictedMs, predictedMs: rawPredictedMs };
}

function learned(...rounds: readonly ReturnType<typeof round>[]): Calibration {
  return rounds.reduce(learn, NO_CALIBRATION);
}

test('drains teach their speed, and what they do not explain', () => {
  const a = learned(round(10, 20), round(12, 22), round(8, 18)).members.get('a');
  assert.is(a?.drainBandwidth, 1e9);
  assert.is(a?.switchoverMs, 5);
});

test('raw predictions that tell rounds apart are believed, but for what they leave out', () => {
  const { fit } = learned(...[10, 50, 200, 400, 90].map((raw) => round(10, raw + 30, raw)));
  assert.is(Math.round(fit.slope * 100), 100);
  assert.is(Math.round(correct(100, fit)), 130);
});

test('where they were noise, what such rounds have cost is the prediction', () => {
  const raws = [10, 90, 20, 80, 15, 85];
  const { fit } = learned(...raws.map((raw, index) => round(10, 70 + (index % 3), raw)));
  assert.ok(Math.abs(correct(15, fit) - 71) < 5);
  assert.ok(Math.abs(correct(85, fit) - 71) < 5);
});

test('beyond what was seen, every millisecond counts', () => {
  const { fit } = learned(...[10, 90, 20, 80, 15, 85].map((raw) => round(10, 70, raw)));
  assert.ok(correct(5000, fit) > 4900);
});

test('one odd round changes little', () => {
  const usual = Array.from({ length: 8 }, () => round(10, 60, 40));
  assert.is(correct(40, learned(...usual, round(10, 5000, 41)).fit), 60);
});

test('the error of predictions is tracked, the last rounds only', () => {
  const first = learn(NO_CALIBRATION, round(10, 100, 10));
  assert.is(first.errorMedian, 0.9);
  let known = first;
  for (let count = 0; count < 12; count++) known = learn(known, round(10, 100, 80));
  assert.ok(Math.abs((known.errorMedian ?? 0) - 0.2) < 1e-9);
  assert.is(known.rounds.length, 12);
});

test('drains too short to tell teach no speed', () => {
  const drain = { drainBytes: 1000, drainMs: 1, downtimeMs: 12 };
  const { members } = learn(NO_CALIBRATION, {
    members: new Map([['a', drain]]),
    clusterDowntimeMs: 12,
    predictedMs: undefined,
    rawPredictedMs: undefined,
  });
  assert.is(members.get('a')?.drainBandwidth, undefined);
  assert.is(members.get('a')?.switchoverMs, 12);
});

test.run();
