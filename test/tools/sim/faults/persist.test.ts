/** The persister's machine keeps its promises under faults, and a broken persister is found. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { PERSISTING_STATE_NAMES } from '../../../../proxy/coordinator/durable/persisting-state.ts';
import { PERSIST_BROKEN, type PersistBroken } from '../../../../tools/sim/faults/persist-plan.ts';
import { shrinkPersist, workPersist } from '../../../../tools/sim/faults/persist-work.ts';
import { runPersist } from '../../../../tools/sim/faults/persist-world.ts';

const ROUNDS = 5_000;
/** Within so many rounds, each of what can be broken has been found. */
const ENOUGH_ROUNDS = 20_000;

const test = suite('persister under faults');

test('thousands of rounds in which disk, processes and power may fail keep every promise', () => {
  const { rounds, committed, violations, states } = workPersist({ firstSeed: 1, rounds: ROUNDS });
  assert.equal(violations, []);
  assert.ok(committed > (rounds * 3) / 4, `${committed} of ${rounds} committed`);
  const missed = PERSISTING_STATE_NAMES.filter((_, state) => !states.includes(state));
  assert.equal(missed, ['stopped'], 'all other states are entered');
});

const PROMISES: Record<PersistBroken, RegExp> = {
  'retire-unheld': /read: /,
  'list-first': /whole: /,
  'commit-unlisted': /commit: /,
  'wait-for-hung': /blocked: /,
  'no-retry': /at last: /,
  'keep-removed': /removed: |aborted: /,
};

for (const broken of PERSIST_BROKEN) {
  test(`found: ${broken}`, () => {
    const share = { firstSeed: 1, rounds: ENOUGH_ROUNDS, broken, stopAtFirst: true };
    const [found] = workPersist(share).violations;
    assert.ok(found, 'nothing was found');
    assert.match(found.what, PROMISES[broken]);
    // Only what was broken is at fault.
    assert.equal(runPersist({ seed: found.seed }).violations, []);
  });
}

test('a seed is a story, told alike each time, and shrunk to what it takes', () => {
  const broken = 'no-retry';
  const share = { firstSeed: 1, rounds: ENOUGH_ROUNDS, broken, stopAtFirst: true } as const;
  const seed = workPersist(share).violations[0]?.seed ?? 0;
  const whole = runPersist({ seed, broken, tell: true });
  assert.equal(runPersist({ seed, broken, tell: true }), whole);
  const short = shrinkPersist(seed, whole.plan, broken);
  assert.ok(short.faults.length > 0 && short.faults.length <= whole.plan.faults.length);
  assert.ok(runPersist({ seed, plan: short, broken }).violations.length > 0);
});

test.run();
