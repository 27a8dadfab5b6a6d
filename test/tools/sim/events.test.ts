import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Events } from '../../../tools/sim/events.ts';
import { LOCAL_NETWORK, Network } from '../../../tools/sim/network.ts';
import { Random } from '../../../tools/sim/random.ts';

const test = suite('virtual time');

test('events happen in order of time, then of asking', () => {
  const events = new Events();
  const random = new Random(3);
  const expected: { atMs: number; order: number }[] = [];
  const seen: typeof expected = [];
  for (let order = 0; order < 2000; order++) {
    const one = { atMs: random.integer(0, 300), order };
    expected.push(one);
    events.at(one.atMs, () => {
      assert.is(events.nowMs, one.atMs);
      seen.push(one);
    });
  }
  assert.not(events.run(() => false, 1000));
  expected.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
  assert.equal(seen, expected);
});

test('an event asked for in the past happens now; none happens after the limit', () => {
  const events = new Events();
  const seen: number[] = [];
  events.at(10, () => events.at(3, () => seen.push(events.nowMs)));
  events.at(50, () => seen.push(events.nowMs));
  assert.not(events.run(() => false, 49));
  assert.equal(seen, [10]);
});

test('the same seed gives the same numbers, neighbours do not', () => {
  const list = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 5 }, () => random.next());
  };
  assert.equal(list(1), list(1));
  assert.not.equal(list(1), list(2));
});

test('random numbers are spread as they should be', () => {
  const random = new Random(7);
  const mean = (draw: () => number) => {
    let sum = 0;
    for (let count = 0; count < 20_000; count++) sum += draw();
    return sum / 20_000;
  };
  assert.ok(Math.abs(mean(() => random.next()) - 0.5) < 0.01);
  assert.ok(Math.abs(mean(() => random.exponential(3)) - 3) < 0.1);
  assert.ok(Math.abs(mean(() => random.integer(1, 3)) - 2) < 0.03);
  assert.ok(Math.abs(mean(() => random.choice(0, 10)) - 5) < 0.2);
});

test('commands of one fan-out leave one after the other; a link keeps the order', () => {
  const events = new Events();
  const spec = { ...LOCAL_NETWORK, latencyMs: 1, jitterMs: 0, commandMs: 0.5 };
  const network = new Network(events, spec, new Random(1));
  const arrivals: number[] = [];
  for (let member = 0; member < 4; member++) {
    network.command(network.link(), () => arrivals.push(events.nowMs));
  }
  events.run(() => false, 100);
  assert.equal(arrivals, [1.5, 2, 2.5, 3]);
  const jittery = new Network(events, { ...spec, jitterMs: 50 }, new Random(1)).link();
  const order: number[] = [];
  for (let sent = 0; sent < 50; sent++) jittery.send(events.nowMs, () => order.push(sent));
  events.run(() => false, 10_000);
  assert.equal(
    order,
    [...order].sort((a, b) => a - b),
  );
});

test.run();
