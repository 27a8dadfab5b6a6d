import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { epochsToRetire, type RetainedEpoch, type RetentionPolicy } from '../../policies/index.ts';

const test = suite('retention');
const HOUR = 3_600_000;
const NOW = 1_000 * HOUR;

/**
 * Parses epochs: `3` is an hour older than `4`, and so on; the newest was committed now. `p` means
 * pinned, `h` held.
 */
function epochs(text: string): RetainedEpoch[] {
  const words = text.split(' ').filter((word) => word !== '');
  return words.map((word, index) => ({
    epoch: Number.parseInt(word, 10),
    committedAtMs: NOW - (words.length - 1 - index) * HOUR,
    pinned: word.endsWith('p'),
    held: word.endsWith('h'),
  }));
}

const KEEP_2 = { keep: 2, keepForMs: undefined };

const CASES: readonly (readonly [
  what: string,
  there: string,
  policy: RetentionPolicy,
  going: readonly number[],
])[] = [
  ['none: none goes', '', KEEP_2, []],
  ['as many as are kept', '1 2', KEEP_2, []],
  ['the oldest beyond go', '1 2 3 4', KEEP_2, [1, 2]],
  ['numbers count, not places', '7 9 12', KEEP_2, [7]],
  ['a pinned one stays', '1 2p 3 4', KEEP_2, [1]],
  ['pinned ones count among the newest', '1 2 3p 4p', KEEP_2, [1, 2]],
  ['all pinned: all stay', '1p 2p 3p 4p', KEEP_2, []],
  ['one that is read stays', '1h 2 3 4', KEEP_2, [2]],
  ['young ones stay, beyond the newest', '1 2 3 4 5', { keep: 1, keepForMs: 2.5 * HOUR }, [1, 2]],
  ['exactly as old is old', '1 2 3 4 5', { keep: 1, keepForMs: 2 * HOUR }, [1, 2, 3]],
  ['the newest stay, however old', '1 2 3', { keep: 3, keepForMs: 1 }, []],
];

for (const [what, there, policy, going] of CASES) {
  test(what, () => {
    assert.equal(epochsToRetire(epochs(there), policy, NOW), going);
    const shuffled = epochs(there).reverse();
    assert.equal(epochsToRetire(shuffled, policy, NOW), going, 'order is of no account');
  });
}

test('after the clock was set back, epochs of the future count as young', () => {
  const ahead = epochs('1 2 3').map((epoch) => ({ ...epoch, committedAtMs: NOW + HOUR }));
  assert.equal(epochsToRetire(ahead, { keep: 1, keepForMs: HOUR }, NOW), []);
  assert.equal(epochsToRetire(ahead, { keep: 1, keepForMs: undefined }, NOW), [1, 2]);
});

test('an unknown time keeps nothing', () => {
  const unknown = epochs('1 2').map((epoch) => ({ ...epoch, committedAtMs: Number.NaN }));
  assert.equal(epochsToRetire(unknown, { keep: 1, keepForMs: HOUR }, NOW), [1]);
});

test('in all cases the newest stay, and each decision has a reason', () => {
  const there = epochs('1p 2 3h 4 5 6p 7 8 9 10');
  for (let keep = 1; keep <= 11; keep++) {
    for (let hours = 0.5; hours < 12; hours++) {
      const going = new Set(epochsToRetire(there, { keep, keepForMs: hours * HOUR }, NOW));
      for (const [index, { epoch, pinned, held, committedAtMs }] of there.entries()) {
        const newest = index >= there.length - keep;
        const young = NOW - committedAtMs < hours * HOUR;
        assert.is(going.has(epoch), !(newest || young || pinned || held), `${keep} ${hours}`);
      }
    }
  }
});

test.run();
