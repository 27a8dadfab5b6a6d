/** Jobs that wait, and jobs that are refused, while another is under way. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Exclusive } from '../../../../proxy/coordinator/rounds/exclusive.ts';
import { UmbraError } from '../../../../proxy/failure/failure.ts';

const test = suite('exclusive');
let exclusive: Exclusive;
/** Jobs that are done, in order. */
let done: string[] = [];

test.before.each(() => {
  exclusive = new Exclusive();
  done = [];
});

/** Makes a job that lasts until it is told to end. */
function lasting(name: string): { work(): Promise<void>; end(error?: Error): void } {
  let end: (error?: Error) => void = () => {};
  const ended = new Promise<void>((resolve, reject) => {
    end = (error) => (error === undefined ? resolve() : reject(error));
  });
  const work = async () => {
    await ended;
    done.push(name);
  };
  return { work, end };
}

/** Returns `done`, or the code of the refusal. */
function outcome(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    (error: UmbraError) => error.code,
  );
}

const AT_ONCE = async () => {};

test('a round refuses other jobs, until it ends or fails', async () => {
  const round = lasting('round');
  const running = outcome(exclusive.run('checkpoint', round.work));
  assert.is(await outcome(exclusive.run('restore', AT_ONCE)), 'E_ROUND_BUSY');
  round.end(UmbraError.received({ code: 'E_TEST', message: 'it broke' }));
  assert.is(await running, 'E_TEST');
  assert.is(await outcome(exclusive.run('restore', AT_ONCE)), 'done');
});

test('other jobs wait for a brief job, in order of arrival', async () => {
  const fold = lasting('fold');
  const round = lasting('round');
  const folding = exclusive.brief('fold', fold.work);
  const first = exclusive.run('checkpoint', round.work);
  const second = outcome(exclusive.run('restore', AT_ONCE));
  assert.is(exclusive.busy, 'fold');
  fold.end();
  await folding;
  assert.is(await second, 'E_ROUND_BUSY');
  round.end();
  await first;
  assert.equal(done, ['fold', 'round']);
});

test('a brief job itself waits for a round', async () => {
  const round = lasting('round');
  const fold = lasting('fold');
  fold.end();
  const running = exclusive.run('checkpoint', round.work);
  const folding = exclusive.brief('fold', fold.work);
  round.end();
  await Promise.all([running, folding]);
  assert.equal(done, ['round', 'fold']);
});

test('a round whose admission fails does not refuse the job that waits', async () => {
  const admission = lasting('admission');
  const refused = outcome(exclusive.run('checkpoint', AT_ONCE, admission.work));
  const restored = outcome(exclusive.run('restore', AT_ONCE));
  admission.end(new UmbraError({ code: 'E_VM_GONE', message: 'it is gone' }));
  assert.is(await refused, 'E_VM_GONE');
  assert.is(await restored, 'done');
});

test('once admitted, a round refuses the job that waits', async () => {
  const admission = lasting('admission');
  const round = lasting('round');
  const running = exclusive.run('checkpoint', round.work, admission.work);
  const restored = outcome(exclusive.run('restore', AT_ONCE));
  admission.end();
  assert.is(await restored, 'E_ROUND_BUSY');
  round.end();
  await running;
  assert.equal(done, ['admission', 'round']);
});

test('a job waits for a slow admission for a limited time', async () => {
  const hasty = new Exclusive(1);
  const admission = lasting('admission');
  const running = outcome(hasty.run('checkpoint', AT_ONCE, admission.work));
  assert.is(await outcome(hasty.run('restore', AT_ONCE)), 'E_ROUND_BUSY');
  admission.end();
  assert.is(await running, 'done');
});

test('at the end, waiting jobs are refused, and the job under way is waited for', async () => {
  const admission = lasting('admission');
  const round = lasting('round');
  const running = exclusive.run('checkpoint', round.work, admission.work);
  const removed = outcome(exclusive.run('remove an epoch', AT_ONCE));
  exclusive.end();
  const settled = exclusive.settled().then(() => assert.equal(done, ['admission', 'round']));
  admission.end();
  assert.is(await removed, 'E_DAEMON_ENDING');
  round.end();
  await Promise.all([running, settled]);
});

test.run();
