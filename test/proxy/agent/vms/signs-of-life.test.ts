import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { SignsOfLife, UNANSWERED_MAX } from '../../../../proxy/agent/vms/signs-of-life.ts';

const test = suite('signs of life');

function askUntilGivenUp(signs: SignsOfLife): number {
  for (let asked = 0; asked < 10 * UNANSWERED_MAX; asked++) if (!signs.ask()) return asked;
  return Number.POSITIVE_INFINITY;
}

test('a silent proxy is given up after a fixed number of questions, not before', () => {
  assert.is(askUntilGivenUp(new SignsOfLife()), UNANSWERED_MAX);
});

test('a proxy that answers is never given up, however late', () => {
  const signs = new SignsOfLife();
  for (let round = 0; round < 100; round++) {
    for (let asked = 1; asked < UNANSWERED_MAX; asked++) assert.ok(signs.ask());
    signs.heard();
  }
  assert.is(askUntilGivenUp(signs), UNANSWERED_MAX, 'what was answered does not count');
});

test('an agent that was frozen asks one late question before it reads the answers', () => {
  const signs = new SignsOfLife();
  assert.ok(signs.ask());
  // Frozen for an hour; then the timer is first, and what has come meanwhile is read after it.
  assert.ok(signs.ask());
  signs.heard();
  assert.is(askUntilGivenUp(signs), UNANSWERED_MAX);
});

test.run();
