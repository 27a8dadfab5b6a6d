import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FlowClock } from '../../../proxy/intake/flow-clock.ts';

/** Notes [at, reads?] in order, from 1000 ms on, and ends at `end`. */
function spans(notes: readonly (readonly [number, boolean])[], end: number) {
  let now = 1000;
  const clock = new FlowClock(() => now);
  clock.start();
  for (const [at, reads] of notes) {
    now = at;
    clock.note(reads);
  }
  now = end;
  const flowedMs = clock.flowedMs;
  const drawn = clock.end().map(({ state, fromMs, toMs }) => `${state} ${fromMs}-${toMs}`);
  return { flowedMs, drawn };
}

const test = suite('flow clock');

test('time read and time held, and when', () => {
  const { flowedMs, drawn } = spans(
    [
      [1100, true],
      [1300, false],
      [1500, true],
    ],
    1600,
  );
  assert.is(flowedMs, 300);
  assert.equal(drawn, ['held 1000-1100', 'live 1100-1300', 'held 1300-1500', 'live 1500-1600']);
});

test('a rest between two passes counts, but is not drawn', () => {
  const { flowedMs, drawn } = spans(
    [
      [1000, true],
      [1300, false],
      [1310, true],
    ],
    1600,
  );
  assert.is(flowedMs, 590);
  assert.equal(drawn, ['live 1000-1600']);
});

test('the same again changes nothing', () => {
  const { flowedMs, drawn } = spans(
    [
      [1000, true],
      [1200, true],
    ],
    1400,
  );
  assert.is(flowedMs, 400);
  assert.equal(drawn, ['live 1000-1400']);
});

test('before the live phase nothing is counted', () => {
  let now = 0;
  const clock = new FlowClock(() => now);
  clock.note(true);
  now = 500;
  assert.is(clock.flowedMs, 0);
  clock.start();
  now = 700;
  assert.is(clock.flowedMs, 200);
});

test('however often it changes, the spans stay bounded', () => {
  const notes = Array.from({ length: 10_000 }, (_, index) => {
    return [1000 + index * 60, index % 2 === 0] as const;
  });
  assert.ok(spans(notes, 700_000).drawn.length <= 1000);
});

test.run();
