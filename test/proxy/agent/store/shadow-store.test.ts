/** The folder of a round, from its beginning to its end. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RoundsInUse } from '../../../../proxy/agent/store/rounds-in-use.ts';
import { ShadowStore } from '../../../../proxy/agent/store/shadow-store.ts';
import { toFailure } from '../../../../proxy/failure/failure.ts';
import type { ClusterConfig } from '../../../../proxy/protocol/cluster.ts';
import {
  Catalogue,
  type EpochManifest,
  type Listing,
  makeEpochManifest,
  openShadow,
  StagingShadow,
} from '../../../../shadow/index.ts';
import { scratchFolder } from '../../../support/scratch.ts';
import { SEAL_INPUT } from '../../../support/seal-input.ts';

const ROUND = 'r000001-00000000';
const DELTA_ROUND = 'r000002-00000000';
const MEMBERS = ['a', 'b', 'c', 'd', 'e', 'f'];
const PAGE = 4096;
const PAGES = 512;

const test = suite('epoch store');
let root = '';
let catalogue: WatchedCatalogue;

/** A catalogue that lets a test act while its epochs are read. */
class WatchedCatalogue extends Catalogue {
  onRead = async () => {};
  onHaveRead = async () => {};

  override async list(): Promise<Listing> {
    await this.onRead();
    const listing = await super.list();
    await this.onHaveRead();
    return listing;
  }
}

let logged: string[] = [];

test.before.each(() => {
  logged = [];
  root = mkdtempSync(join(scratchFolder(), 'umbra-epoch-store-'));
  catalogue = new WatchedCatalogue(join(root, 'epochs'), 'demo');
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function storeOf(held: RoundsInUse): ShadowStore {
  const members = [{ name: 'a' }, { name: 'b' }];
  const store = { recycle: true };
  const config = { cluster: 'demo', members, shadowsDirectory: shadows(), store };
  const log = pino({ level: 'error' }, { write: (line) => logged.push(line) });
  return new ShadowStore(config as unknown as ClusterConfig, catalogue, held, log);
}

function shadows(): string {
  return join(root, 'shadows');
}

/** Returns the rounds that have a folder. */
function rounds(): string[] {
  return readdirSync(shadows()).filter((name) => name.startsWith('r'));
}

/** Seals a shadow of every member. @param baseRound what they are deltas of, if they are */
async function sealed(epoch: number, round: string, baseRound?: string): Promise<EpochManifest> {
  const members = [];
  for (const name of MEMBERS) {
    const location = { directory: join(shadows(), round, name), member: name, round };
    const base = baseRound && (await openShadow(join(shadows(), baseRound, name)));
    const options = base && { base, reservedBytes: 0, moreBytes: PAGES * PAGE, headroomBytes: 0 };
    const layout = [{ idstr: 'pc.ram', length: PAGES * PAGE }];
    const shadow = await StagingShadow.reserve(location, layout, PAGE, options || undefined);
    const [ram] = shadow.match([{ idstr: 'pc.ram', usedLength: PAGES * PAGE }]);
    for (let page = 0; page < PAGES; page++) ram?.writePage(page * PAGE, randomBytes(PAGE), 0);
    members.push({ name, shadow: (await shadow.seal(SEAL_INPUT)).sha256 });
  }
  const createdAt = '2030-01-01T00:00:00.000Z';
  return makeEpochManifest({ cluster: 'demo', epoch, round, createdAt, members });
}

test('a round holds its folder until it has ended and its last member has left', async () => {
  mkdirSync(join(root, 'shadows'));
  const held = new RoundsInUse();
  const store = storeOf(held);
  await store.beginRound(ROUND);
  for (const _ of ['a', 'b']) {
    held.release(ROUND);
    assert.ok(held.has(ROUND));
  }
  store.endRound(ROUND);
  assert.not(held.has(ROUND));
});

test('a round whose folder cannot be made holds nothing, and names the folder', async () => {
  const held = new RoundsInUse();
  try {
    await storeOf(held).beginRound(ROUND);
    assert.unreachable();
  } catch (error) {
    const { code, message, hint } = toFailure(error, {});
    assert.is(code, 'E_STORE_IO');
    assert.match(message, join(root, 'shadows', ROUND));
    assert.match(message, 'ENOENT');
    assert.ok(hint);
  }
  assert.not(held.has(ROUND));
});

test('an epoch removed while it is verified is whole; its memory is freed afterwards', async () => {
  await catalogue.prepare();
  await sealed(1, ROUND);
  const epoch = await sealed(2, DELTA_ROUND, ROUND);
  const store = storeOf(new RoundsInUse());
  // It was removed since its manifest was read.
  await Promise.all([store.verify(epoch, 'all'), store.collect('free')]);
  while (rounds().length > 0) await delay(5);
});

test('a shadow fetched from disk is kept until an epoch names it, or removed', async () => {
  await catalogue.prepare();
  const store = storeOf(new RoundsInUse());
  store.beginFetch();
  await sealed(1, ROUND);
  const epoch = await sealed(2, DELTA_ROUND, ROUND);
  assert.equal(await store.collect('free'), []);
  await catalogue.publish(epoch);
  store.endFetch();
  assert.equal(await store.collect('free'), []);

  store.beginFetch();
  await catalogue.retire(epoch.epoch);
  assert.equal(await store.collect('free'), []);
  store.endFetch();
  while (rounds().length > 0) await delay(5);
});

test('an epoch that does not say what it needs keeps everything, and is named', async () => {
  await catalogue.prepare();
  await sealed(1, ROUND);
  await catalogue.publish(await sealed(2, DELTA_ROUND, ROUND));
  mkdirSync(join(shadows(), 'r000003-00000000'));
  writeFileSync(join(shadows(), DELTA_ROUND, 'a', 'shadow.json'), '{}');
  const store = storeOf(new RoundsInUse());
  assert.equal(await store.collect('free'), []);
  const [line = ''] = logged;
  assert.match(line, /E_MANIFEST_INVALID/);
  assert.match(line, /umbra rm 2/);
  await catalogue.retire(2);
  assert.is((await store.collect('free')).length, 3);
});

test('a round that begins during a collection is not collected', async () => {
  await catalogue.prepare();
  mkdirSync(join(shadows(), ROUND), { recursive: true });
  const store = storeOf(new RoundsInUse());
  catalogue.onRead = () => store.beginRound(DELTA_ROUND);
  assert.equal(await store.collect('free'), [ROUND]);
  assert.equal(rounds(), [DELTA_ROUND]);
});

test('nor is one that is committed during it', async () => {
  await catalogue.prepare();
  const epoch = await sealed(1, ROUND);
  const held = new RoundsInUse();
  held.hold(ROUND);
  catalogue.onHaveRead = async () => {
    await catalogue.publish(epoch);
    held.release(ROUND);
  };
  assert.equal(await storeOf(held).collect('free'), []);
  assert.equal(rounds(), [ROUND]);
});

test('two collections at once remove leftovers once', async () => {
  await catalogue.prepare();
  for (let epoch = 1; epoch < 9; epoch++) {
    mkdirSync(join(shadows(), `r00000${epoch}-00000000`), { recursive: true });
  }
  const store = storeOf(new RoundsInUse());
  const removed = await Promise.all([store.collect('free'), store.collect('recycle')]);
  assert.equal(
    removed.map(({ length }) => length),
    [8, 0],
  );
});

test.run();
