/** Epochs pinned, held, removed and retired: a real catalogue, an agent that only takes notes. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseClusterConfig } from '../../../../proxy/config/config.ts';
import type { Persister } from '../../../../proxy/coordinator/durable/persister.ts';
import { Epochs } from '../../../../proxy/coordinator/epochs/epochs.ts';
import { UmbraError } from '../../../../proxy/failure/failure.ts';
import type { Agent } from '../../../../proxy/protocol/agent.ts';
import type { ClusterConfig } from '../../../../proxy/protocol/cluster.ts';
import { Catalogue, type EpochManifest, makeEpochManifest } from '../../../../shadow/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const HOUR = 3_600_000;
const NOW = Date.parse('2030-01-01T12:00:00.000Z');
const TEXT = '{cluster: demo, members: [{name: a, qmp: /x}], epochs: {keep: 1, keepFor: 2h}}';

const test = suite('epochs');
let root = '';
let catalogue: Catalogue;
let config: ClusterConfig;
let epochs: Epochs;
let gone: string[] = [];
/** Verification by the agent: throws what it finds. */
let onVerify: (manifest: EpochManifest) => Promise<void>;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-epochs-'));
  config = parseClusterConfig(TEXT, '/etc/cluster.yaml', root);
  mkdirSync(config.directory);
  catalogue = new Catalogue(config.catalogueDirectory, 'demo');
  await catalogue.prepare();
  gone = [];
  const agent = {
    collect: async (how: string) => gone.push(how),
    verify: (manifest: EpochManifest) => onVerify(manifest),
  };
  const log = pino({ level: 'silent' });
  epochs = new Epochs(config, catalogue, agent as unknown as Agent, undefined, log);
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

/** Publishes epochs 1 to `count`, an hour apart, the newest now. */
async function publish(count: number): Promise<void> {
  for (let epoch = 1; epoch <= count; epoch++) {
    const manifest = makeEpochManifest({
      cluster: 'demo',
      epoch,
      round: `r00000${epoch}-0123abcd`,
      createdAt: new Date(NOW - (count - epoch) * HOUR).toISOString(),
      members: [{ name: 'a', shadow: 'f'.repeat(64) }],
    });
    await catalogue.publish(manifest);
  }
}

async function numbers(): Promise<number[]> {
  return (await epochs.list()).map(({ epoch }) => epoch);
}

async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: UmbraError) => error.code,
  );
}

test('epochs are kept by the policy as time passes', async () => {
  await publish(5);
  assert.is(await epochs.retireOld(NOW), 3);
  assert.equal(await numbers(), [4, 5]);
  assert.is(await epochs.retireOld(NOW), 0);
  await epochs.retireOld(NOW + HOUR);
  assert.equal(await numbers(), [5]);
});

test('a pinned epoch is kept, its removal refused; unpinned, it is removed', async () => {
  await publish(5);
  await epochs.pin(2, true);
  await epochs.retireOld(NOW);
  assert.equal(await numbers(), [2, 4, 5]);
  assert.is(await codeOf(epochs.remove(2)), 'E_EPOCH_PINNED');
  assert.equal(
    (await epochs.list()).map(({ pinned }) => pinned),
    [true, false, false],
  );
  await epochs.pin(2, false);
  await epochs.remove(2);
  assert.equal(await numbers(), [4, 5]);
  assert.equal(gone, ['free'], 'an epoch that is removed gives its memory back');
  assert.not(readdirSync(catalogue.directory).some((name) => name.endsWith('.pin')));
});

test('an unknown epoch cannot be pinned', async () => {
  await publish(1);
  assert.is(await codeOf(epochs.pin(9, true)), 'E_EPOCH_UNKNOWN');
  assert.not(readdirSync(catalogue.directory).some((name) => name.endsWith('.pin')));
});

test('a held epoch is kept until its last holder releases it', async () => {
  await publish(5);
  const first = await epochs.hold(() => catalogue.read(1));
  const second = await epochs.hold(() => catalogue.read(1));
  assert.is(first.held.epoch, 1);
  await epochs.retireOld(NOW);
  assert.equal(await numbers(), [1, 4, 5]);
  first.release();
  first.release();
  assert.is(await codeOf(epochs.remove(1)), 'E_EPOCH_HELD');
  second.release();
  await epochs.retireOld(NOW);
  assert.equal(await numbers(), [4, 5]);
});

test('nor is a held epoch replaced by one fetched from disk', async () => {
  await publish(1);
  const { held, release } = await epochs.hold(() => catalogue.read(1));
  const fetched = { ...held, round: 'r000001-ffffffff' };
  assert.is(await codeOf(epochs.takeFetched(fetched)), 'E_EPOCH_HELD');
  assert.is((await catalogue.read(1)).round, held.round);
  assert.is(await codeOf(epochs.takeFetched(held)), undefined, 'the same one does no harm');
  release();
  await epochs.takeFetched(fetched);
  assert.is((await catalogue.read(1)).round, fetched.round);
});

test('an epoch on disk alone is pinned there, and stays once it is brought back', async () => {
  await publish(5);
  const there = await catalogue.read(1);
  await catalogue.retire(1);
  const pinned = new Set<number>();
  const listing = { epochs: [there], damaged: [], pinned: [] as number[] };
  const persister = {
    listing,
    status: {},
    isPersisting: () => false,
    pin: async (epoch: number, isPinned: boolean) => {
      if (isPinned) pinned.add(epoch);
      else pinned.delete(epoch);
      listing.pinned = [...pinned];
    },
  };
  const log = pino({ level: 'silent' });
  const agent = { collect: async () => {} } as unknown as Agent;
  const both = new Epochs(config, catalogue, agent, persister as unknown as Persister, log);
  await both.pin(1, true);
  assert.equal([...pinned], [1]);
  assert.is((await both.list())[0]?.pinned, true);
  await both.takeFetched(there);
  await both.retireOld(NOW);
  assert.equal(await numbers(), [1, 4, 5]);
  assert.is(await codeOf(both.remove(1)), 'E_EPOCH_PINNED');
  await both.pin(1, false);
  await both.retireOld(NOW);
  assert.equal([await numbers(), [...pinned]], [[4, 5], []]);
});

test('a held epoch is not folded', async () => {
  await publish(1);
  const { held, release } = await epochs.hold(() => catalogue.read(1));
  const folded = { ...held, round: 'r000001-ffffffff' };
  assert.is(await epochs.replace(folded), false);
  let free = false;
  const unheld = epochs.unheld(1).then(() => {
    free = true;
  });
  await new Promise(setImmediate);
  assert.not(free);
  release();
  await unheld;
  assert.is(await epochs.replace(folded), true);
  assert.is((await catalogue.read(1)).round, folded.round);
});

function corrupt(): never {
  throw new UmbraError({ code: 'E_EPOCH_CORRUPT', message: 'no such file' });
}

test('an epoch that is folded while it is verified is read again', async () => {
  await publish(1);
  const folded = 'r000001-ffffffff';
  const read: string[] = [];
  onVerify = async (manifest) => {
    read.push(manifest.round);
    if (manifest.round === folded) return;
    await epochs.replace({ ...manifest, round: folded });
    corrupt(); // its files are gone
  };
  await epochs.verify(1, 'all');
  assert.equal(read, ['r000001-0123abcd', folded]);
});

test('an epoch removed during verification is not called damaged; a damaged one is', async () => {
  await publish(2);
  onVerify = async ({ epoch }) => {
    if (epoch === 1) await epochs.remove(epoch);
    corrupt();
  };
  assert.is(await codeOf(epochs.verify(1, 'all')), 'E_EPOCH_UNKNOWN');
  assert.is(await codeOf(epochs.verify(2, 'all')), 'E_EPOCH_CORRUPT');
});

test('an acknowledged pin holds, whatever else was under way', async () => {
  await publish(5);
  const [, pinned] = await Promise.all([
    epochs.retireOld(NOW),
    codeOf(epochs.pin(1, true)),
    epochs.retireOld(NOW),
  ]);
  assert.is((await numbers()).includes(1), pinned === undefined);
});

test('the list gives age and space', async () => {
  await publish(2);
  const [one, two] = await epochs.details(NOW + HOUR);
  assert.equal([one?.ageMs, two?.ageMs], [2 * HOUR, HOUR]);
  assert.equal(one?.space, { ownBytes: 0, sharedBytes: 0 });
});

test.run();
