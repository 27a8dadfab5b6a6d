import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { grown, growthOf, type Sample } from './growth.ts';

const test = suite('soak growth');

test('a flat measure, however noisy, has not grown', () => {
  const growth = growthOf(samples(40, (n) => ({ daemonMiB: 90 + (n % 7) * 2 })));
  assert.ok(growth !== undefined);
  assert.equal(grown(growth), []);
});

test('a leak is named, and a rise at the start is no leak', () => {
  const leak = growthOf(samples(40, (n) => ({ descriptors: 30 + n, daemonMiB: n < 3 ? 40 : 90 })));
  assert.ok(leak !== undefined);
  assert.equal(grown(leak), ['descriptors']);
});

test('a single additional process counts as growth', () => {
  const growth = growthOf(samples(20, (n) => ({ processes: n > 10 ? 6 : 5 })));
  assert.ok(growth !== undefined);
  assert.equal(grown(growth), ['processes']);
});

test('too few samples give no result', () => {
  assert.is(growthOf(samples(6, () => ({}))), undefined);
});

function samples(count: number, at: (n: number) => Partial<Sample>): Sample[] {
  const flat = { daemonMiB: 90, proxiesMiB: 150, descriptors: 60, processes: 5, tmpfsMiB: 400 };
  return Array.from({ length: count }, (_, n) => ({ atMs: n * 1000, ...flat, ...at(n) }));
}

test.run();
