/** Real processes of the durable tier, without epochs: asked, refused, killed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { DurableTier } from '../../../../proxy/agent/durable/durable-tier.ts';
import { RoundsInUse } from '../../../../proxy/agent/store/rounds-in-use.ts';
import { parseClusterConfig } from '../../../../proxy/config/config.ts';
import { programPath } from '../../../../proxy/host/program.ts';
import type { EpochManifest } from '../../../../shadow/index.ts';
import { type Bundled, bundled, forkPlain } from '../../../support/bundled.ts';
import { failureOf } from '../../../support/failure-of.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { suite } from '../../../support/suite.ts';

const test = suite('durable tier');
let root = '';
let tier: DurableTier;
let list: Bundled;
let job: Bundled;
let restoreFork: () => void;

const EPOCH: EpochManifest = {
  format: 'umbra-epoch',
  version: 2,
  cluster: 'demo',
  epoch: 3,
  round: 'r000003-aaaaaaaa',
  createdAt: '2026-01-01T00:00:00.000Z',
  members: [{ name: 'a', shadow: 'a'.repeat(64) }],
};

test.before(async () => {
  [list, job] = await Promise.all([
    bundled(programPath('proxy/agent/durable/list-process')),
    bundled(programPath('proxy/agent/durable/job-process')),
  ]);
  restoreFork = forkPlain();
});
test.after(() => {
  list.remove();
  job.remove();
  restoreFork();
});

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-tier-'));
  const text = `{cluster: demo, members: [{name: a, qmp: /x}], persist: {to: ${root}/disk}}`;
  tier = new DurableTier(
    parseClusterConfig(text, '/etc/c.yaml', join(root, 'home')),
    new RoundsInUse(),
    { list: list.path, job: job.path },
  );
});
test.after.each(async () => {
  await tier.close();
  rmSync(root, { recursive: true, force: true });
});

test('the keeper of the list answers, one request after another', async () => {
  const lists = await Promise.all([
    tier.ask({ type: 'look' }),
    tier.ask({ type: 'collect' }),
    tier.ask({ type: 'look' }),
  ]);
  for (const { epochs, damaged, pinned, nextEpoch } of lists) {
    assert.equal([epochs, damaged, pinned, nextEpoch], [[], [], [], 1]);
  }
  assert.is(tier.silentMs, undefined);
});

test('a request that the keeper refuses fails with its code and where', async () => {
  writeFileSync(join(root, 'disk'), '');
  const failure = await failureOf(tier.ask({ type: 'look' }));
  assert.is(failure.code, 'E_DURABLE_IO');
  assert.is(failure.where, 'disk');
  rmSync(join(root, 'disk'));
  assert.equal((await tier.ask({ type: 'look' })).epochs, []);
});

test('a job that fails says which it was, and for which epoch', async () => {
  const [verified, fetched] = await Promise.all([
    failureOf(tier.verify(EPOCH)),
    failureOf(tier.fetch(EPOCH, 'all', () => {})),
  ]);
  for (const { code } of [verified, fetched]) {
    assert.not.ok(['E_DURABLE_LOST', 'E_PROTOCOL', 'E_INTERNAL'].includes(code), code);
  }
  assert.equal([verified.where, fetched.where], ['verify epoch 3', 'fetch epoch 3']);
});

test('processes that are ended are lost, and say what they were to do', async () => {
  // Neither process can have answered: both have yet to start.
  const asked = failureOf(tier.ask({ type: 'collect' }));
  const verified = failureOf(tier.verify(EPOCH));
  await new Promise((resolve) => setImmediate(resolve));
  await tier.close();
  const { code, message } = await verified;
  assert.equal([code, message], ['E_DURABLE_LOST', 'the process that was to verify epoch 3 ended']);
  const lost = await asked;
  assert.equal(
    [lost.code, lost.message],
    ['E_DURABLE_LOST', 'the process that was to collect on disk ended'],
  );
  assert.equal((await tier.ask({ type: 'look' })).epochs, [], 'another takes its place');
});

test.run();
