import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isPassWorthIt } from '../../policies/index.ts';

const test = suite('live passes');

test('a few pages are left for the stop', () => {
  assert.not(isPassWorthIt(0, []));
  assert.not(isPassWorthIt(2000, []));
  assert.ok(isPassWorthIt(5000, []));
});

test('how few depends on how fast pages were read', () => {
  const slow = [{ pages: 50_000, ms: 500 }]; // 100 a millisecond
  assert.ok(isPassWorthIt(1000, slow));
  assert.not(isPassWorthIt(300, slow));
});

test('passes go on while they find clearly less, and not for ever', () => {
  const first = { pages: 40_000, ms: 40 };
  assert.ok(isPassWorthIt(20_000, [first]));
  assert.not(isPassWorthIt(35_000, [first]), 'the guest writes as fast as it is read');
  const five = [5, 4, 3, 2, 1].map((n) => ({ pages: n * 20_000, ms: n * 20 }));
  assert.not(isPassWorthIt(10_000, five));
});

test('a pass that read nothing says nothing of the rate', () => {
  assert.not(isPassWorthIt(1000, [{ pages: 0, ms: 0 }]));
});

test.run();
