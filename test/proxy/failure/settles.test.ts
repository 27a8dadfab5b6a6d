import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { settles } from '../../../proxy/failure/settles.ts';

/** Time that no test waits for. */
const LONG_MS = 3_600_000;
const never = new Promise<void>(() => {});

const test = suite('waiting for what may never end');

function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
}

test('work that ends has settled, whether it succeeds or fails, and no timer is left', async () => {
  const before = timers();
  assert.is(await settles(Promise.resolve(7), LONG_MS), true);
  assert.is(await settles(Promise.reject(new Error('no room')), LONG_MS), true);
  assert.ok(timers() <= before);
});

test('work that has not ended after the time has not settled', async () => {
  assert.is(await settles(never, 1), false);
});

test('nor has it when the signal aborts first, or was aborted; no timer is left', async () => {
  const before = timers();
  const stopping = new AbortController();
  const waiting = settles(never, LONG_MS, stopping.signal);
  stopping.abort();
  assert.is(await waiting, false);
  assert.is(await settles(never, LONG_MS, stopping.signal), false);
  assert.ok(timers() <= before);
});

test.run();
