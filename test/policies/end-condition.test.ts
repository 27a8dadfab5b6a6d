import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decideEnd, type EndCondition, type Estimate, POLICIES } from '../../policies/index.ts';

const LIVE: Estimate = {
  firstPassDone: true,
  waits: false,
  liveBytes: 100,
  ramBytes: 100,
  dirtyBytesPerSecond: 1e6,
  bandwidth: 1e9,
  downtimeMs: 30,
};

function members(...changes: readonly Partial<Estimate>[]): Map<string, Estimate> {
  return new Map(changes.map((change, index) => [`n${index}`, { ...LIVE, ...change }]));
}

type Case = readonly [
  name: string,
  condition: EndCondition,
  members: Map<string, Estimate>,
  elapsedMs: number,
  reason: RegExp | undefined,
];

const ALL: EndCondition = { kind: 'all-first-pass' };
const ANY: EndCondition = { kind: 'any-first-pass' };
const SOON: EndCondition = { kind: 'predicted-downtime', ms: 50 };
const STUCK: EndCondition = { kind: 'no-progress' };
const BOUND: EndCondition = { kind: 'memory-bound', factor: 2 };
const LATE: EndCondition = { kind: 'elapsed', ms: 1000 };

const early = { firstPassDone: false };
const waiting = { firstPassDone: false, waits: true, bandwidth: undefined, downtimeMs: undefined };

const CASES: readonly Case[] = [
  ['all: everyone has', ALL, members({}, {}), 0, /^all-first-pass/],
  ['all: one has not', ALL, members({}, early), 0, undefined],
  ['all: one without a live phase is waited for by nobody', ALL, members({}, waiting), 0, /^all/],
  ['any: one has', ANY, members(early, {}), 0, /^any-first-pass: n1/],
  ['any: none has', ANY, members(early, early), 0, undefined],
  ['any: none has a live phase', ANY, members(waiting), 0, /^any-first-pass/],
  ['predicted: the slowest fits', SOON, members({}, { downtimeMs: 50 }), 0, /50 ms predicted/],
  ['predicted: the slowest does not', SOON, members({}, { downtimeMs: 51 }), 0, undefined],
  ['predicted: unknown is not zero', SOON, members({ downtimeMs: undefined }), 0, undefined],
  ['predicted: not before the first pass', SOON, members({}, early), 0, undefined],
  [
    'no progress: one cannot keep up',
    STUCK,
    members({}, { bandwidth: 1e6 }),
    0,
    /^no-progress: n1/,
  ],
  ['no progress: all gain', STUCK, members({}, {}), 0, undefined],
  ['no progress: unknown is no reason', STUCK, members({ bandwidth: undefined }), 0, undefined],
  ['bound: reached', BOUND, members({}, { liveBytes: 200 }), 0, /^memory-bound: n1 .* 2 times/],
  ['bound: not reached', BOUND, members({ liveBytes: 199 }), 0, undefined],
  ['bound: RAM unknown', BOUND, members({ ramBytes: 0 }), 0, undefined],
  ['elapsed', LATE, members({}, early), 1000, /^elapsed: .* 1000 ms; not sent once: n1/],
  ['not yet elapsed', LATE, members({}), 999, undefined],
];

const test = suite('end condition');

for (const [name, condition, all, elapsedMs, reason] of CASES) {
  test(name, () => {
    const decision = decideEnd(all, elapsedMs, [condition]);
    assert.is(decision.end, reason !== undefined);
    if (decision.end && reason !== undefined) assert.match(decision.reason, reason);
  });
}

test('the first in the list that holds is the reason', () => {
  const decision = decideEnd(members({}), 2000, [STUCK, LATE, ALL]);
  assert.is(decision.end && decision.condition, 'elapsed');
});

test('every option says its unit, default and effect', () => {
  for (const options of Object.values(POLICIES)) {
    for (const { option, unit, default: usual, effect } of options) {
      for (const text of [unit, usual, effect]) assert.ok(text.length > 0, option);
    }
  }
});

test.run();
