import { strict as assert } from 'node:assert';
import { suite } from 'uvu';
import { fuzzOne, SEED_STREAMS } from './stream.ts';

const test = suite('the stream decoder, fuzzed');

/** Five seconds' worth or less; bounded by number so that every run is the same. */
const INPUTS = 15_000;

test(`${INPUTS} mutated streams: coded errors only, bounded work and memory`, () => {
  const outcomes = new Map<string, number>();
  for (let seed = 1; seed <= INPUTS; seed++) {
    const outcome = fuzzOne(seed).split(' ')[0] ?? '';
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  // The mutations reach far: many kinds of error, and streams that still decode.
  assert.ok(outcomes.size > 15, `only ${[...outcomes.keys()].join(' ')}`);
  assert.ok((outcomes.get('complete') ?? 0) > 100);
});

test('a failure names its seed', () => {
  const broken = [Buffer.from('no stream at all')];
  assert.match(fuzzOne(3, broken), /^E_STREAM_/);
  const hostile = new Proxy(SEED_STREAMS, {
    get() {
      throw new Error('no such thing');
    },
  });
  assert.throws(() => fuzzOne(42, hostile), /fuzz seed 42: no such thing/);
});

test.run();
