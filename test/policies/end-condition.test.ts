import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decideEnd, type LiveSample } from '../../policies/index.ts';

const test = suite('end condition');
const OPTIONS = { maxLiveMs: 1000 };

function samples(...passes: readonly (readonly [seen: number, total: number, passes: number])[]) {
  const named = passes.map(([seenPages, totalPages, count], index) => {
    return [`n${index}`, { seenPages, totalPages, passes: count, waits: false }] as [
      string,
      LiveSample,
    ];
  });
  return new Map(named);
}

test('all have sent everything once', () => {
  const decision = decideEnd(samples([10, 10, 1], [3, 20, 2]), 0, OPTIONS);
  assert.ok(decision.end);
  assert.match(decision.end ? decision.reason : '', /^all-first-pass/);
});

test('it waits for the slowest, and says for whom', () => {
  const decision = decideEnd(samples([10, 10, 1], [19, 20, 1], [0, 0, 0]), 999, OPTIONS);
  assert.equal(decision, { end: false, waitingFor: ['n1', 'n2'] });
});

test('a member without a live phase is waited for by nobody', () => {
  const waiting = samples([0, 0, 0], [10, 10, 1]);
  waiting.set('n0', { seenPages: 0, totalPages: 0, passes: 0, waits: true });
  assert.ok(decideEnd(waiting, 0, OPTIONS).end);
});

test('but no longer than it may', () => {
  const decision = decideEnd(samples([10, 10, 1], [19, 20, 1]), 1000, OPTIONS);
  assert.ok(decision.end);
  assert.match(decision.end ? decision.reason : '', /^elapsed: .*n1/);
});

test.run();
