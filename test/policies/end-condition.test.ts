import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decideEnd, type EndCondition, type LiveView } from '../../policies/index.ts';
import { EARLY, members, WAITING } from './member.ts';

type Case = readonly [
  name: string,
  condition: EndCondition,
  look: Partial<LiveView>,
  reason: RegExp | undefined,
];

const ALL: EndCondition = { kind: 'all-first-pass' };
const ANY: EndCondition = { kind: 'any-first-pass' };
const SOON: EndCondition = { kind: 'predicted-downtime', ms: 50 };
const STUCK: EndCondition = { kind: 'no-progress' };
const BOUND: EndCondition = { kind: 'memory-bound', factor: 2 };
const LATE: EndCondition = { kind: 'elapsed', ms: 1000 };

const CASES: readonly Case[] = [
  ['all: every member has', ALL, { members: members({}, {}) }, /^all-first-pass/],
  ['all: one has not', ALL, { members: members({}, EARLY) }, undefined],
  [
    'all: one without a live phase is not waited for',
    ALL,
    { members: members({}, WAITING) },
    /^all/,
  ],
  ['any: one has', ANY, { members: members(EARLY, {}) }, /^any-first-pass: n1/],
  ['any: none has', ANY, { members: members(EARLY, EARLY) }, undefined],
  ['any: none has a live phase', ANY, { members: members(WAITING) }, /^any-first-pass/],
  ['predicted: it fits', SOON, { predictedMs: 50 }, /50 ms predicted/],
  ['predicted: it does not', SOON, { predictedMs: 51 }, undefined],
  ['predicted: unknown is not zero', SOON, { predictedMs: undefined }, undefined],
  ['no progress: stalled', STUCK, { stalled: 'n1 dirties' }, /^no-progress: n1/],
  ['no progress: not stalled', STUCK, { stalled: undefined }, undefined],
  ['bound: reached', BOUND, { members: members({}, { liveBytes: 200 }) }, /^memory-bound: n1 .* 2/],
  [
    'bound: reached by one that has sent all, while another has not',
    BOUND,
    { members: members(EARLY, { liveBytes: 200 }) },
    undefined,
  ],
  [
    'bound: reached by one that has not sent all',
    BOUND,
    { members: members({ ...EARLY, liveBytes: 200 }, {}) },
    /^memory-bound: n0/,
  ],
  ['bound: not reached', BOUND, { members: members({ liveBytes: 199 }) }, undefined],
  ['bound: RAM unknown', BOUND, { members: members({ ramBytes: 0 }) }, undefined],
  [
    'elapsed',
    LATE,
    { members: members({}, EARLY), elapsedMs: 1000 },
    /^elapsed: .* 1000 ms; not sent once: n1/,
  ],
  ['not yet elapsed', LATE, { elapsedMs: 999 }, undefined],
];

function looked(look: Partial<LiveView>): LiveView {
  return {
    members: members({}),
    elapsedMs: 0,
    predictedMs: undefined,
    stalled: undefined,
    ...look,
  };
}

const test = suite('end condition');

for (const [name, condition, look, reason] of CASES) {
  test(name, () => {
    const decision = decideEnd(looked(look), [condition]);
    assert.is(decision.end, reason !== undefined);
    if (decision.end && reason !== undefined) assert.match(decision.reason, reason);
  });
}

test('the first in the list that holds is the reason', () => {
  const decision = decideEnd(looked({ elapsedMs: 2000 }), [STUCK, LATE, ALL]);
  assert.is(decision.end && decision.condition, 'elapsed');
});

test.run();
