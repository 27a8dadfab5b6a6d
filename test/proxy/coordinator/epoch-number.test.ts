/**
 * Numbers of epochs when only the disk may know which were used: a real catalogue, and an agent
 * whose disk answers when it is told to.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseClusterConfig } from '../../../proxy/config/config.ts';
import { Coordinator } from '../../../proxy/coordinator/coordinator.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import type { Agent, DurableList } from '../../../proxy/protocol/agent.ts';
import type { ClusterConfig } from '../../../proxy/protocol/cluster.ts';
import { Catalogue, makeEpochManifest } from '../../../shadow/index.ts';
import { scratchFolder } from '../../support/scratch.ts';

const TEXT = '{cluster: demo, members: [{name: a, qmp: /x}], persist: {to: /nowhere}}';
const SILENT_MS = 60_000;
const LIMIT_MS = 60_000;
const BEGUN = new Error('the round was begun');

const test = suite('number of the next epoch');
let root = '';
let config: ClusterConfig;
let catalogue: Catalogue;
let coordinator: Coordinator;
/** Rounds that were begun. */
let begun: string[] = [];
/** What the disk answers, when it does. */
let disk: Promise<DurableList>;
let silentMs: number | undefined;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-number-'));
  config = parseClusterConfig(TEXT, '/etc/cluster.yaml', root);
  mkdirSync(config.directory);
  catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  await catalogue.prepare();
  begun = [];
  silentMs = undefined;
  const agent: Partial<Agent> = {
    members: ['a'],
    onNotice: () => {},
    admit: async () => ({ neededBytes: 0, freeBytes: 0 }),
    collect: async () => [],
    status: async () => [],
    beginRound: async (round) => {
      begun.push(round);
      throw BEGUN; // what it is called is all that matters here
    },
    durable: () => disk,
    durableSilentMs: () => silentMs,
    persist: () => Promise.reject(new UmbraError({ code: 'E_DURABLE_IO', message: 'no disk' })),
    endPersist: () => {},
  };
  const log = pino({ level: 'silent' });
  coordinator = new Coordinator(config, agent as Agent, catalogue, log);
});
test.after.each(async () => {
  await coordinator.end();
  rmSync(root, { recursive: true, force: true });
});

function view(nextEpoch: number): DurableList {
  return { epochs: [], damaged: [], pinned: [], nextEpoch, doubt: undefined };
}

/** Takes a checkpoint. @returns the epoch it was begun for, or the code of its refusal */
async function checkpoint(): Promise<number | string> {
  begun = [];
  try {
    await coordinator.checkpoint({}, () => {});
    return 'ended';
  } catch (error) {
    if (error !== BEGUN) return error instanceof UmbraError ? error.code : String(error);
    return Number(/^r(\d{6})-/.exec(begun[0] ?? '')?.[1]);
  }
}

/** Waits until the persister has the answer of the disk. */
async function untilAnswered(): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while ((await coordinator.status()).persist?.failure !== undefined) {
    assert.ok(performance.now() < end, 'the disk is still taken for silent');
    await delay(5);
  }
}

async function publish(epoch: number): Promise<void> {
  const manifest = makeEpochManifest({
    cluster: 'demo',
    epoch,
    round: `r00000${epoch}-0123abcd`,
    createdAt: '2030-01-01T00:00:00.000Z',
    members: [{ name: 'a', shadow: 'f'.repeat(64) }],
  });
  await catalogue.publish(manifest);
}

test('with all memory lost, the disk gives the number', async () => {
  disk = Promise.resolve(view(8));
  await coordinator.start();
  assert.is(await checkpoint(), 8);
});

test('with all memory lost, no round begins until the disk answers', async () => {
  let answer: (view: DurableList) => void = () => {};
  disk = new Promise((resolve) => {
    answer = resolve;
  });
  await coordinator.start();
  assert.is(await checkpoint(), 'E_DURABLE_SILENT');
  assert.equal(begun, []);
  answer(view(8));
  await untilAnswered();
  assert.is(await checkpoint(), 8);
});

test('if memory has the numbers, a silent disk delays no round', async () => {
  disk = Promise.resolve(view(3));
  await publish(5);
  await coordinator.start();
  silentMs = SILENT_MS;
  assert.is(await checkpoint(), 6);
});

test.run();
