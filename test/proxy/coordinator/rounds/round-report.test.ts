import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { outcomeOf } from '../../../../proxy/coordinator/rounds/round-outcome.ts';
import {
  type RoundSummary,
  reportRound,
} from '../../../../proxy/coordinator/rounds/round-report.ts';
import type { RoundFacts } from '../../../../proxy/protocol/member.ts';
import { timelineSvg } from '../../../../tools/cli/timeline-svg.ts';

const STARTED = Date.parse('2026-01-01T00:00:00.000Z');
const at = (ms: number) => (STARTED + ms) * 1000;

const SUMMARY: RoundSummary = {
  round: 'r000001-00000000',
  epoch: 1,
  startedAt: new Date(STARTED).toISOString(),
  durationMs: 2000,
  endReason: 'no-progress: a <b> & c',
  policy: 'parallel',
  predictedDowntimeMs: 30,
  rawPredictedDowntimeMs: 20,
  failure: undefined,
};

function facts(stop: number, resume: number, more: RoundFacts = {}): RoundFacts {
  return {
    capture: 'precopy',
    stoppedAtUs: at(stop),
    resumedAtUs: at(resume),
    liveBytes: 100,
    drainBytes: 10,
    drainMs: 15,
    flow: [
      { state: 'held', fromMs: STARTED + 100, toMs: STARTED + 200 },
      { state: 'live', fromMs: STARTED + 200, toMs: STARTED + stop + 8 },
    ],
    ...more,
  };
}

function report(more: RoundFacts = {}) {
  const all = new Map([
    ['a', facts(1000, 1020, more)],
    ['b', facts(1005, 1040)],
  ]);
  return reportRound(SUMMARY, all, new Map([['a', 25]]));
}

const test = suite('round report');

test('first stop to last resume, and how far the prediction was off', () => {
  const { clusterDowntimeMs, skewMs, predictionError, barrierHeld } = report();
  assert.is(clusterDowntimeMs, 40);
  assert.is(skewMs, 5);
  assert.is(predictionError, 0.25);
  assert.is(barrierHeld, true);
});

test('bytes add up', () => {
  const { liveBytes, drainBytes, streamBytes } = report();
  assert.equal([liveBytes, drainBytes, streamBytes], [200, 20, 220]);
});

test('a member’s time from the live phase to its resumption, without overlap', () => {
  const [a] = report().members;
  assert.equal(a?.timeline, [
    { state: 'held', fromMs: 100, toMs: 200 },
    { state: 'live', fromMs: 200, toMs: 1000 },
    { state: 'stopped', fromMs: 1000, toMs: 1015 },
    { state: 'drained', fromMs: 1015, toMs: 1020 },
  ]);
  assert.is(a?.predictedDowntimeMs, 25);
});

test('in the background, a member is saved after its resumption, shown apart from its stop', () => {
  const [a] = report({ capture: 'background', drainMs: 215 }).members;
  assert.equal(a?.timeline.slice(-2), [
    { state: 'stopped', fromMs: 1000, toMs: 1020 },
    { state: 'saving', fromMs: 1020, toMs: 1215 },
  ]);
  assert.is(a?.savingMs, 195);
  assert.is(report().members[0]?.savingMs, undefined);
});

test('a round that failed before the stop is reported as far as it came', () => {
  const { resumedAtUs: _, ...standing } = facts(1000, 1020);
  const made = reportRound(SUMMARY, new Map([['a', standing]]), new Map());
  assert.is(made.clusterDowntimeMs, undefined);
  assert.is(made.predictionError, undefined);
  assert.is(made.members[0]?.timeline.length, 2);
});

test('only rounds with a live phase are used for calibration', () => {
  assert.is(outcomeOf(report())?.clusterDowntimeMs, 40);
  assert.is(outcomeOf(report({ capture: 'stop-copy' })), undefined);
  const failure = { code: 'E_X', message: 'x' };
  assert.is(outcomeOf({ ...report(), failure }), undefined);
});

test('the picture is whole, escaped, and has every lane twice: the round, and the stop', () => {
  const svg = timelineSvg(report());
  assert.ok(svg.startsWith('<svg ') && svg.trimEnd().endsWith('</svg>'));
  assert.match(svg, 'a &lt;b&gt; &amp; c');
  assert.not.match(svg, /NaN|undefined|Infinity/);
  assert.is(svg.split('>b  ').length - 1, 2);
});

test('a round without a single span is drawn, too', () => {
  const empty = reportRound({ ...SUMMARY, epoch: undefined }, new Map(), new Map());
  assert.not.match(timelineSvg(empty), /NaN|Infinity/);
});

test.run();
