/** A checkpoint that is aborted before its round begins; the agent's admission ends when told. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseClusterConfig } from '../../../proxy/config/config.ts';
import { Coordinator } from '../../../proxy/coordinator/coordinator.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import type { Agent } from '../../../proxy/protocol/agent.ts';
import { Catalogue } from '../../../shadow/index.ts';
import { scratchFolder } from '../../support/scratch.ts';

const TEXT = '{cluster: demo, members: [{name: a, qmp: /x}], store: {whenFull: queue}}';
const test = suite('abort of a checkpoint');
let root = '';
let coordinator: Coordinator;
/** Rounds that were begun. */
let begun = 0;
let admitted: (refusal?: UmbraError) => void;
/** The outcome of the checkpoint: `done`, or a code. */
let outcome: Promise<string>;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-abort-'));
  const config = parseClusterConfig(TEXT, '/etc/cluster.yaml', root);
  mkdirSync(config.directory);
  const catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  await catalogue.prepare();
  begun = 0;
  const admission = new Promise<void>((resolve, reject) => {
    admitted = (refusal) => (refusal === undefined ? resolve() : reject(refusal));
  });
  admission.catch(() => {}); // it may reject before a test awaits it
  const agent: Partial<Agent> = {
    members: ['a'],
    onNotice: () => {},
    admit: () => admission.then(() => ({ neededBytes: 0, freeBytes: 0 })),
    collect: async () => [],
    status: async () => [],
    beginRound: async () => {
      begun++;
      throw UmbraError.received({ code: 'E_TEST', message: 'it was begun' });
    },
  };
  const log = pino({ level: 'silent' });
  coordinator = new Coordinator(config, agent as Agent, catalogue, log);
  assert.not(coordinator.abort('there is nothing to end'));
  outcome = coordinator
    .checkpoint({}, () => {})
    .then(
      () => 'done',
      ({ code }: UmbraError) => code,
    );
});
test.after.each(async () => {
  admitted();
  await coordinator.end();
  rmSync(root, { recursive: true, force: true });
});

test('aborted during admission, a checkpoint’s round does not begin', async () => {
  assert.ok(coordinator.abort('the operator ended it'));
  admitted();
  assert.is(await outcome, 'E_ROUND_ABORTED');
  assert.is(begun, 0);
  assert.not(coordinator.abort('it is over'));
});

test('aborted during admission, it does not wait for memory', async () => {
  coordinator.abort('the operator ended it');
  admitted(new UmbraError({ code: 'E_BUDGET', message: 'there is none' }));
  assert.is(await outcome, 'E_ROUND_ABORTED');
});

test('aborted while it waits for memory, it stops waiting', async () => {
  admitted(new UmbraError({ code: 'E_BUDGET', message: 'there is none' }));
  while ((await coordinator.status()).queued === undefined) await delay(1);
  assert.is((await coordinator.status()).queued?.code, 'E_BUDGET');
  assert.is((await coordinator.status()).busy, undefined, 'a queued round keeps nothing busy');
  assert.ok(coordinator.abort('the operator ended it'));
  assert.is(await outcome, 'E_ROUND_ABORTED');
  assert.is((await coordinator.status()).queued, undefined);
  assert.not(coordinator.abort('it is over'));
});

test('a daemon that ends says so: the caller may ask the next daemon', async () => {
  const ended = coordinator.end();
  admitted();
  assert.is(await outcome, 'E_DAEMON_ENDING');
  assert.is(begun, 0);
  await ended;
});

test('a checkpoint that is not aborted begins', async () => {
  admitted();
  assert.is(await outcome, 'E_TEST');
  assert.is(begun, 1);
});

test.run();
