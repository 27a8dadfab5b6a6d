/** The gate of a stream: when it is read, and when it is held. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type GateEvent, NEW_GATE, reads, turn } from '../../../proxy/intake/gate.ts';

const test = suite('gate');

/** Returns whether the stream is read after these events. */
function after(...events: readonly GateEvent[]): boolean {
  return reads(events.reduce(turn, NEW_GATE));
}

const TABLE: readonly (readonly [reads: boolean, ...events: GateEvent[]])[] = [
  [false],
  [true, 'slot-opens'],
  [false, 'slot-opens', 'slot-closes'],
  [false, 'slot-opens', 'pace-on'],
  [true, 'slot-opens', 'pace-on', 'pace-off'],
  [false, 'slot-opens', 'kept-back'],
  [false, 'slot-opens', 'limit-reached'],
  [true, 'slot-closes', 'pace-on', 'kept-back', 'released'],
  [false, 'limit-reached', 'released'],
  [true, 'limit-reached', 'released', 'draining'],
  [true, 'pace-on', 'limit-reached', 'draining', 'slot-closes', 'pace-on'],
];

for (const [expected, ...events] of TABLE) {
  const what = expected ? 'is read' : 'is held';
  test(`the stream ${what} after: ${events.join(', ') || 'nothing'}`, () => {
    assert.is(after(...events), expected);
  });
}

test('a stream is kept back only while it is live', () => {
  for (const stage of ['released', 'draining'] as const) {
    assert.not([stage, 'kept-back' as const].reduce(turn, NEW_GATE).keptBack);
  }
});

test('draining is never left: a stopped VM must not wait for an unread stream', () => {
  const held: readonly GateEvent[] = [
    'slot-closes',
    'pace-on',
    'kept-back',
    'limit-reached',
    'released',
  ];
  assert.ok(after('draining', ...held));
});

test.run();
