import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Estimate,
  LivePhase,
  type LiveSample,
  NO_CALIBRATION,
  observeProgress,
  type Progress,
  whyStalled,
} from '../../policies/index.ts';
import { EARLY, members, WAITING } from './member.ts';

const test = suite('live phase');

function look(progress: Progress | undefined, all: ReadonlyMap<string, Estimate>) {
  const next = observeProgress(progress, all);
  return { next, stalled: whyStalled(next, all) };
}

test('while the prediction falls, the phase goes on', () => {
  let progress: Progress | undefined;
  for (const [pass, downtimeMs] of [900, 500, 200, 90, 40, 20].entries()) {
    const { next, stalled } = look(progress, members({ downtimeMs, passes: pass + 2 }));
    assert.is(stalled, undefined);
    progress = next;
  }
});

test('when the prediction has stopped falling for some passes, the phase is stalled', () => {
  let progress: Progress | undefined;
  const found: (string | undefined)[] = [];
  for (let pass = 2; pass < 8; pass++) {
    const step = look(progress, members({ downtimeMs: 100 - pass, passes: pass }));
    progress = step.next;
    found.push(step.stalled);
  }
  assert.equal(found.slice(0, 3), [undefined, undefined, undefined]);
  assert.match(found[3] ?? '', /^n0 dirties/);
});

test('a slow stream gets its passes, however many ticks they take', () => {
  let progress: Progress | undefined;
  for (let count = 0; count < 20; count++) {
    const { next, stalled } = look(progress, members({ passes: 3 }));
    assert.is(stalled, undefined);
    progress = next;
  }
});

test('a member that is kept back has no passes to wait for', () => {
  let progress: Progress | undefined;
  let reason: string | undefined;
  for (let count = 0; count < 4; count++) {
    const step = look(progress, members({ keptBack: true, passes: 1 }));
    progress = step.next;
    reason = step.stalled;
  }
  assert.match(reason ?? '', /^n0 cannot send more/);
});

test('nothing is reported before all have sent their memory once', () => {
  assert.is(observeProgress(undefined, members({}, EARLY)), undefined);
  assert.is(observeProgress(undefined, members({}, { downtimeMs: undefined })), undefined);
  assert.ok(observeProgress(undefined, members({}, WAITING)) !== undefined);
});

const SAMPLE: LiveSample = {
  atMs: 0,
  bytes: 0,
  flowedMs: 0,
  seenPages: 0,
  totalPages: 1000,
  normalPages: 0,
  zeroPages: 0,
  passes: 1,
  passAtMs: 0,
  waits: false,
  keptBack: false,
  remainingBytes: undefined,
  passBytes: undefined,
  dirtyBytesPerSecond: undefined,
};

const ROBIN = { kind: 'round-robin', slotMs: 100, atOnce: 1 } as const;

test('slots are reported when they change, and only then', () => {
  const phase = new LivePhase(['a', 'b'], { endWhen: [], multiplexing: ROBIN }, NO_CALIBRATION);
  const first = phase.tick(0);
  assert.equal([first.flow, first.hold], [['a'], []]);
  const same = phase.tick(50);
  assert.equal([same.flow, same.hold], [[], []]);
  const next = phase.tick(100);
  assert.equal([next.flow, next.hold], [['b'], ['a']]);
});

test('no end condition waits for members without a live phase', () => {
  for (const kind of ['all-first-pass', 'any-first-pass', 'no-progress'] as const) {
    const policy = { endWhen: [{ kind }], multiplexing: ROBIN };
    const phase = new LivePhase(['a'], policy, NO_CALIBRATION);
    assert.not(phase.tick(0).end.end, kind);
    phase.observe('a', { ...SAMPLE, waits: true });
    assert.ok(phase.tick(50).end.end, kind);
  }
});

test('the prediction is the slowest member’s, corrected by earlier rounds', () => {
  const parallel = { kind: 'parallel', slotMs: 100, dirtyShare: 0.5 } as const;
  const fit = { slope: 0.5, offsetMs: 7, rawLeastMs: 1, rawMostMs: 20 };
  const calibration = { ...NO_CALIBRATION, fit };
  const phase = new LivePhase(['a', 'b'], { endWhen: [], multiplexing: parallel }, calibration);
  const done = { ...SAMPLE, passes: 2, remainingBytes: 20_000 };
  for (const name of ['a', 'b']) phase.observe(name, done);
  assert.is(phase.tick(0).predictedMs, undefined); // their speed is unknown
  phase.observe('a', { ...done, flowedMs: 100, bytes: 1e8 });
  phase.observe('b', { ...done, flowedMs: 1000, bytes: 1e6 });
  const { predictedMs, rawPredictedMs } = phase.tick(50);
  assert.is(rawPredictedMs, 30); // b: 20 ms to send, 10 to switch over
  assert.is(predictedMs, 7 + 10 + 10); // slope 0.5 up to the greatest seen, 1 beyond it
  phase.observe('a', { ...SAMPLE, waits: true });
  assert.is(phase.tick(100).predictedMs, undefined); // a is copied whole after its stop
});

test('before any stream, the reservation says which member has the most to send', () => {
  const multiplexing = { kind: 'finish-together', slotMs: 100, atOnce: 1 } as const;
  const phase = new LivePhase(['a', 'b', 'c'], { endWhen: [], multiplexing }, NO_CALIBRATION);
  for (const [name, bytes] of [
    ['a', 1e9],
    ['b', 3e9],
    ['c', 2e9],
  ] as const) {
    phase.expect(name, bytes);
  }
  assert.equal(phase.tick(0).flow, ['b']);
});

test.run();
