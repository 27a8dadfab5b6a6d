import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { nothingKnown } from '../../policies/estimator.ts';
import { chooseMigrations, type EvacuationOrder, type Passing } from '../../policies/evacuation.ts';

const MiB = 2 ** 20;

/** Migrations in their first pass with so much to send, in the order in which they came. */
function passing(left: Readonly<Record<string, number | 'released'>>): Map<string, Passing> {
  const passing = new Map<string, Passing>();
  for (const [name, bytes] of Object.entries(left)) {
    const letGo = bytes === 'released';
    passing.set(name, { released: letGo, estimate: nothingKnown(letGo ? 0 : bytes * MiB) });
  }
  return passing;
}

const choose = (
  left: Parameters<typeof passing>[0],
  order: EvacuationOrder,
  atOnce: number,
  elapsedMs = 0,
) => [...chooseMigrations(passing(left), elapsedMs, { order, atOnce, slotMs: 1000 })].sort();

test('in order: the first that came, each from beginning to end', () => {
  assert.equal(choose({ a: 1, b: 9, c: 5 }, 'in-order', 1), ['a']);
  assert.equal(choose({ a: 'released', b: 9, c: 5 }, 'in-order', 1), ['a']);
  assert.equal(choose({ b: 9, c: 5 }, 'in-order', 1), ['b']);
  assert.equal(choose({ a: 'released', b: 9, c: 5 }, 'in-order', 2), ['a', 'b']);
  assert.equal(choose({ a: 1, b: 9 }, 'in-order', 5), ['a', 'b']);
});

test('a released migration flows, even beyond the number at once', () => {
  const left = { a: 'released', b: 'released', c: 1 } as const;
  for (const order of ['in-order', 'round-robin', 'finish-together'] as const) {
    assert.equal(choose(left, order, 1), ['a', 'b']);
  }
});

test('round-robin: each has its slot', () => {
  const left = { a: 4, b: 4, c: 4 };
  const turns = [0, 1000, 2000, 3000].map((at) => choose(left, 'round-robin', 1, at));
  assert.equal(turns, [['a'], ['b'], ['c'], ['a']]);
});

test('finish-together: those with the most to send', () => {
  assert.equal(choose({ a: 1, b: 9, c: 5 }, 'finish-together', 1), ['b']);
  assert.equal(choose({ a: 1, b: 'released', c: 5 }, 'finish-together', 2), ['b', 'c']);
  assert.equal(choose({ a: 1 }, 'finish-together', 1), ['a']);
});

test('without migrations, none is chosen', () => {
  assert.equal(choose({}, 'round-robin', 1), []);
});

test.run();
