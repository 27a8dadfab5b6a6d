/** Pacing, event by event: what is asked of QEMU and of the stream. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { newPacing, type PacingEvent, step } from '../../../proxy/intake/pacing.ts';

const MIB = 2 ** 20;
const LITTLE: PacingEvent = { type: 'asked', passBytes: 4096, dirtyRate: 0 };
const LITTLE_OF_A_BUSY_GUEST: PacingEvent = { ...LITTLE, dirtyRate: 64 * MIB };
const MUCH: PacingEvent = { type: 'asked', passBytes: 64 * MIB, dirtyRate: 64 * MIB };

const test = suite('pacing machine');

/** Returns the actions that the last of these events leads to, in words. */
function last(canTrickle: boolean, ...events: readonly PacingEvent[]): string[] {
  let pacing = newPacing(canTrickle);
  let words: string[] = [];
  for (const event of events) {
    const next = step(pacing, event);
    pacing = next.pacing;
    words = next.actions.map((action) => {
      switch (action.type) {
        case 'pace':
          return action.rests ? 'hold' : 'flow';
        case 'trickle':
          return `${action.slow ? 'trickle' : 'full speed'}${action.confirm ? ', confirm' : ''}`;
        case 'rest':
          return `rest ${action.ms}`;
        default:
          return action.type;
      }
    });
  }
  return words;
}

const PASS: PacingEvent = { type: 'pass' };
const CONFIRMED: PacingEvent = { type: 'confirmed' };
const CLOSE_IN: PacingEvent = { type: 'close-in' };
const END: PacingEvent = { type: 'end' };

test('a pass: the stream is held while QEMU is asked', () => {
  assert.equal(last(true, PASS), ['stop-resting', 'hold', 'ask']);
});

test('further passes change nothing while a question is open', () => {
  assert.equal(last(true, PASS, PASS), []);
});

test('a pass that found much flows at once', () => {
  assert.equal(last(true, PASS, MUCH), ['sample', 'flow']);
});

test('a pass that found little flows when QEMU has confirmed that it trickles', () => {
  assert.equal(last(true, PASS, LITTLE), ['sample', 'trickle, confirm']);
  assert.equal(last(true, PASS, LITTLE, PASS), []);
  assert.equal(last(true, PASS, LITTLE, CONFIRMED), ['flow']);
});

test('a QEMU that trickles already is not told again', () => {
  assert.equal(last(true, PASS, LITTLE, CONFIRMED, PASS, LITTLE), ['sample', 'flow']);
});

test('a pass that found much ends the trickle before it flows', () => {
  const events = [PASS, LITTLE, CONFIRMED, PASS, MUCH];
  assert.equal(last(true, ...events), ['sample', 'full speed, confirm']);
});

test('a QEMU that cannot trickle rests', () => {
  assert.equal(last(false, PASS, LITTLE), ['sample', 'rest 100']);
  assert.equal(last(false, PASS, LITTLE, { type: 'rested' }), ['flow']);
});

test('the last page of the first pass: the stream rests until the event of the next pass', () => {
  assert.equal(last(true, { type: 'all-seen' }), ['hold', 'rest 100']);
  assert.equal(last(true, PASS, { type: 'all-seen' }), [], 'the pass was known first');
  assert.equal(last(true, CLOSE_IN, { type: 'all-seen' }), []);
});

test('kept back: QEMU trickles, whatever it says is left', () => {
  const much: PacingEvent = { type: 'news', remainingBytes: 64 * MIB };
  assert.equal(last(true, { type: 'kept-back' }), ['trickle']);
  assert.equal(last(true, { type: 'kept-back' }, much), []);
  assert.equal(last(true, { type: 'kept-back' }, CLOSE_IN), ['full speed']);
});

test('news that much is left ends a trickle', () => {
  const news = (remainingBytes: number): PacingEvent => ({ type: 'news', remainingBytes });
  assert.equal(last(true, PASS, LITTLE, CONFIRMED, news(64 * MIB)), ['full speed']);
  assert.equal(last(true, PASS, LITTLE, CONFIRMED, news(4096)), []);
  assert.equal(last(true, news(64 * MIB)), []);
});

test('closing in: no trickle; a quiet guest rests for good, another for a moment', () => {
  assert.equal(last(true, PASS, LITTLE, CONFIRMED, CLOSE_IN), ['full speed']);
  assert.equal(last(true, CLOSE_IN, PASS, LITTLE), []);
  assert.equal(last(true, CLOSE_IN, PASS, LITTLE_OF_A_BUSY_GUEST), ['rest 15']);
  assert.equal(last(true, CLOSE_IN, PASS, MUCH), ['flow']);
  assert.equal(last(true, CLOSE_IN, { type: 'kept-back' }), []);
});

test('after the end nothing is done to QEMU', () => {
  assert.equal(last(true, END), ['stop-resting']);
  for (const event of [PASS, CLOSE_IN, { type: 'all-seen' }, { type: 'kept-back' }] as const) {
    assert.equal(last(true, END, event), []);
  }
  assert.equal(last(true, PASS, END, MUCH), ['sample']);
});

test.run();
