/** Order of epochs on their way to disk, and outcomes of failures. The disk is a real one. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DurableListKeeper } from '../../../../proxy/agent/durable/list.ts';
import { parseClusterConfig } from '../../../../proxy/config/config.ts';
import {
  Persister,
  type PersistingAgent,
} from '../../../../proxy/coordinator/durable/persister.ts';
import { UmbraError } from '../../../../proxy/failure/failure.ts';
import { DurableStore, Pace } from '../../../../shadow/durable/index.ts';
import { Catalogue, type EpochManifest, pinEpoch } from '../../../../shadow/index.ts';
import { sealEpoch } from '../../../shadow/durable/sealed-epoch.ts';
import { scratchFolder } from '../../../support/scratch.ts';

const LIMIT_MS = 60_000;

const test = suite('persister');
let root = '';
let catalogue: Catalogue;
let persisters: Persister[] = [];
/** Epochs that the fake agent persisted, in order. */
let persisted: number[] = [];
/** Called before each; it may fail. */
let before: (epoch: number) => Promise<void>;
let endPersist: () => void = () => {};
let keepers: DurableListKeeper[] = [];
/** Called before the list is asked for, or changed; it may hang. */
let asked: (what: string) => Promise<void>;
/** Called when that is done; it may fail. */
let answered: (what: string) => Promise<void>;
/** Silence of the disk, as the agent reports it. */
let silentMs: number | undefined;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-persister-'));
  catalogue = new Catalogue(join(root, 'home', 'demo', 'epochs'), 'demo');
  await catalogue.prepare();
  mkdirSync(join(root, 'home', 'demo', 'shadows'));
  persisted = [];
  before = async () => {};
  asked = async () => {};
  answered = async () => {};
  silentMs = undefined;
});
test.after.each(async () => {
  await Promise.all(persisters.map((persister) => persister.stop()));
  persisters = [];
  for (const keeper of keepers) keeper.release();
  keepers = [];
  rmSync(root, { recursive: true, force: true });
});

function persister(settings: object = {}): Persister {
  const persist = JSON.stringify({ to: join(root, 'disk'), ...settings });
  const text = `{cluster: demo, members: [{name: a, qmp: a.sock}], persist: ${persist}}`;
  const config = parseClusterConfig(text, '/etc/cluster.yaml', join(root, 'home'));
  if (config.persist === undefined) throw new Error('no durable tier');
  const store = new DurableStore(config.persist.directory, 'demo');
  const { shadowsDirectory } = config;
  const location = { cluster: 'demo', directory: config.persist.directory, shadowsDirectory };
  const keeper = new DurableListKeeper(location, () => {});
  keepers.push(keeper);
  const agent: PersistingAgent = {
    async persist(epoch, onProgress) {
      const ended = new Promise<never>((_, reject) => {
        endPersist = () => reject(new UmbraError({ code: 'E_PERSIST_ENDED', message: 'ended' }));
      });
      ended.catch(() => {});
      await Promise.race([before(epoch.epoch), ended]);
      persisted.push(epoch.epoch);
      const pace = new Pace(undefined, { now: () => 0, sleep: async () => {} });
      const options = { pace, onProgress, onStep: () => {}, parallel: 1 };
      return store.persistShadows(epoch, config.shadowsDirectory, options);
    },
    endPersist: () => endPersist(),
    durable: async (request) => {
      await asked(request.type);
      const view = await keeper.answer(request);
      await answered(request.type);
      return view;
    },
    durableSilentMs: () => silentMs,
  };
  const log = pino({ level: 'silent' });
  const made = new Persister(config.persist, agent, catalogue, log);
  persisters.push(made);
  return made;
}

async function seal(epoch: number): Promise<EpochManifest> {
  return sealEpoch(join(root, 'home', 'demo', 'shadows'), epoch, ['a']);
}

async function publish(...epochs: number[]): Promise<void> {
  for (const epoch of epochs) await catalogue.publish(await seal(epoch));
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + LIMIT_MS; !holds(); await delay(5)) {
    if (performance.now() > end) throw new Error(`not in time: ${holds}`);
  }
}

const onDisk = (of: Persister) => of.listing.epochs.map(({ epoch }) => epoch);

test('the newest epoch is persisted first, then the others; a fixed number is kept', async () => {
  await publish(1, 2, 3);
  const one = persister({ keep: 2 });
  await one.start();
  await until(() => onDisk(one).length === 2 && persisted.length === 2);
  assert.equal(persisted, [3, 2]);
  assert.is(one.nextEpoch, 4);
  await publish(4);
  one.wake();
  await until(() => onDisk(one).join() === '3,4');
  assert.equal(persisted, [3, 2, 4]);
});

test('a pinned epoch is not retired from disk', async () => {
  await publish(1);
  const one = persister({ keep: 1 });
  await one.start();
  await until(() => onDisk(one).join() === '1');
  await pinEpoch(catalogue.directory, 1);
  await publish(2);
  one.wake();
  await until(() => one.status.persisting === undefined && onDisk(one).join() === '1,2');
  await publish(3);
  one.wake();
  await until(() => onDisk(one).join() === '1,3');
});

test('a failure is reported with the time of its retry; a new epoch retries at once', async () => {
  await publish(1);
  before = async () => {
    throw new UmbraError({ code: 'E_DURABLE_NO_ROOM', message: 'the disk is full' });
  };
  const one = persister();
  await one.start();
  await until(() => one.status.failure !== undefined);
  assert.is(one.status.failure?.code, 'E_DURABLE_NO_ROOM');
  assert.ok(one.status.retryAt);
  assert.equal(onDisk(one), []);
  assert.is((await catalogue.list()).epochs.length, 1, 'the epoch in memory stands');
  before = async () => {};
  one.wake();
  await until(() => onDisk(one).includes(1));
  assert.is(one.status.failure, undefined);
  assert.is(one.status.retryAt, undefined);
});

test('a folder that cannot be made is reported, and prevents no start', async () => {
  writeFileSync(join(root, 'disk'), 'no folder');
  const one = persister();
  await one.start();
  assert.is(one.status.failure?.code, 'E_DURABLE_IO');
  assert.ok(one.status.retryAt);
});

test('an unreadable epoch is given up and reported, and the others are persisted', async () => {
  await publish(1, 2);
  const image = join(root, 'home/demo/shadows/r000002-0123abcd/a/ram-0.img');
  rmSync(image);
  const one = persister();
  await one.start();
  await until(() => onDisk(one).includes(1));
  assert.is(one.status.failure?.code, 'E_EPOCH_CORRUPT');
  assert.equal(onDisk(one), [1]);
});

test('numbers of another history on disk are neither reused nor overwritten', async () => {
  const store = new DurableStore(join(root, 'disk', 'demo'), 'demo');
  await store.prepare();
  const foreign = { ...(await seal(1)), createdAt: '2020-01-01T00:00:00.000Z' };
  await store.publish(foreign, () => {});
  rmSync(join(root, 'home', 'demo', 'shadows'), { recursive: true });
  await publish(1);
  const one = persister();
  await one.start();
  await until(() => one.status.failure?.code === 'E_EPOCH_EXISTS');
  assert.is(one.find(1)?.createdAt, foreign.createdAt);
  assert.is(one.nextEpoch, 2);
});

test('before-commit: a disk that takes too long ends the round', async () => {
  const one = persister({ mode: 'before-commit', timeLimit: '50ms' });
  await one.start();
  before = () => new Promise(() => {});
  const error: UmbraError = await one.beforeCommit(await seal(1)).catch((caught) => caught);
  assert.is(error.code, 'E_PERSIST_SLOW');
  assert.equal(onDisk(one), []);
});

test('an epoch that is removed while it is persisted is not on disk afterwards', async () => {
  await publish(1);
  before = () => new Promise(() => {});
  const one = persister();
  await one.start();
  await until(() => one.isPersisting(1));
  await catalogue.retire(1);
  await one.remove(1);
  await until(() => one.status.persisting === undefined);
  assert.equal(onDisk(one), []);
  assert.is(one.status.failure, undefined);
});

test('nor is one that is removed just before it gets its name', async () => {
  await publish(1, 2);
  before = async (epoch) => {
    if (epoch === 2) await catalogue.retire(2);
  };
  const one = persister();
  await one.start();
  await until(() => onDisk(one).join() === '1');
  assert.equal(persisted, [2, 1]);
  assert.is(one.status.failure, undefined);
});

test('nor one that is removed while it gets its name', async () => {
  await publish(1, 2);
  answered = async (what) => {
    if (what === 'publish' && persisted.at(-1) === 2) await catalogue.retire(2);
  };
  const one = persister();
  await one.start();
  await until(() => onDisk(one).join() === '1');
  await until(() => one.status.persisting === undefined);
  assert.equal(onDisk(one), [1]);
});

test('a pin survives the loss of its epoch in memory', async () => {
  await publish(1);
  await pinEpoch(catalogue.directory, 1);
  const one = persister({ keep: 1 });
  await one.start();
  await until(() => one.listing.pinned.join() === '1');
  await one.stop();
  keepers.pop()?.release();
  rmSync(catalogue.directory, { recursive: true }); // a reboot
  await catalogue.prepare();
  const next = persister({ keep: 1 });
  await next.start();
  await publish(2, 3);
  next.wake();
  await until(() => onDisk(next).join() === '1,3');
  await next.pin(1, false);
  assert.equal(next.listing.pinned, []);
  next.wake();
  await until(() => onDisk(next).join() === '3');
});

test('a pin waits while a round brings another epoch to disk', async () => {
  const one = persister({ mode: 'before-commit', keep: 5 });
  await one.start();
  await one.beforeCommit(await seal(1));
  let outstanding = 0;
  let most = 0;
  let publish: () => void = () => {};
  const counts = (what: string) => what === 'publish' || what === 'pin';
  asked = async (what) => {
    if (counts(what)) most = Math.max(most, ++outstanding);
    if (what === 'publish') await new Promise<void>((done) => (publish = done));
  };
  answered = async (what) => {
    if (counts(what)) outstanding--;
  };
  let isOnDisk = false;
  const second = one.beforeCommit(await seal(2)).then(() => {
    isOnDisk = onDisk(one).includes(2);
  });
  second.catch(() => {});
  await until(() => outstanding === 1 && persisted.at(-1) === 2);
  const pinned = one.pin(1, true);
  await delay(20); // it must not get there
  assert.is(outstanding, 1);
  publish();
  await Promise.all([second, pinned]);
  assert.ok(isOnDisk);
  assert.equal(one.listing.pinned, [1]);
  assert.is(most, 1);
});

test('an epoch committed during the last cleanup of the disk is persisted, too', async () => {
  await publish(1);
  const one = persister();
  let tidy: (() => void) | undefined;
  asked = async (what) => {
    if (what === 'collect' && onDisk(one).join() === '1')
      await new Promise<void>((done) => (tidy = done));
  };
  await one.start();
  await until(() => tidy !== undefined);
  await publish(2);
  one.wake();
  tidy?.();
  await until(() => onDisk(one).join() === '1,2');
});

test('a retired epoch is not offered, though the process died before it answered', async () => {
  await publish(1);
  const one = persister({ keep: 1 });
  await one.start();
  await until(() => onDisk(one).join() === '1');
  let died = false;
  answered = async (what) => {
    if (what !== 'retire' || died) return;
    died = true;
    assert.equal(onDisk(one), [2], 'nor while it goes');
    throw new UmbraError({ code: 'E_DURABLE_LOST', message: 'it died' });
  };
  await publish(2);
  one.wake();
  await until(() => one.status.failure?.code === 'E_DURABLE_LOST');
  assert.equal(onDisk(one), [2]);
});

/** Makes the disk hang: requests wait, ended or not, until the returned function is called. */
function hangingDisk(): () => void {
  let goOn: () => void = () => {};
  const hung = new Promise<void>((done) => {
    goOn = done;
  });
  asked = () => hung;
  return goOn;
}

test('a hung disk prevents no daemon from starting or ending', async () => {
  await publish(1);
  const goOn = hangingDisk();
  const one = persister();
  const startedAt = performance.now();
  await one.start();
  assert.is(one.status.failure?.code, 'E_DURABLE_SILENT');
  await one.stop();
  assert.ok(performance.now() - startedAt < 60_000, 'it would hang for ever');
  goOn();
});

test('a long silent disk is reported, and requests that would wait are refused', async () => {
  const one = persister({ mode: 'before-commit' });
  await one.start();
  const epoch = await seal(1);
  silentMs = 60_000;
  assert.is(one.status.failure?.code, 'E_DURABLE_SILENT');
  assert.ok(one.status.failure?.hint);
  for (const ask of [
    async () => one.requireAnswer(),
    () => one.beforeCommit(epoch),
    () => one.remove(1),
  ]) {
    const error: UmbraError = await ask().catch((caught) => caught);
    assert.is(error.code, 'E_DURABLE_SILENT');
  }
  silentMs = undefined;
  await one.beforeCommit(epoch);
  assert.equal(onDisk(one), [1]);
  assert.is(one.status.failure, undefined);
});

test('before-commit: a disk that hangs lists no epoch of an aborted round', async () => {
  const one = persister({ mode: 'before-commit', timeLimit: '1s' });
  await one.start();
  await one.beforeCommit(await seal(1));
  await until(() => one.status.persisting === undefined);
  let goOn: () => void = () => {};
  asked = async (what) => {
    if (what === 'publish') await new Promise<void>((done) => (goOn = done));
  };
  const epoch = await seal(2);
  const slow: UmbraError = await one.beforeCommit(epoch).catch((caught) => caught);
  assert.is(slow.code, 'E_PERSIST_SLOW');
  const next: UmbraError = await one.beforeCommit(epoch).catch((caught) => caught);
  assert.is(next.code, 'E_DURABLE_SILENT', 'and the next one is told at once why it cannot be');
  assert.is(one.status.failure?.code, 'E_DURABLE_SILENT');
  asked = async () => {};
  goOn();
  await until(() => one.status.failure === undefined);
  assert.equal(onDisk(one), [1]);
  assert.is(one.nextEpoch, 3, 'its number is not used again');
  await one.beforeCommit(await seal(3));
  assert.equal(onDisk(one), [1, 3]);
});

test('before-commit: a turn that begins after its time brings nothing to disk', async () => {
  const one = persister({ mode: 'before-commit', timeLimit: '50ms' });
  let goOn: () => void = () => {};
  asked = async (what) => {
    if (what === 'collect') await new Promise<void>((done) => (goOn = done));
  };
  await one.start();
  const epoch = await seal(1);
  const error: UmbraError = await one.beforeCommit(epoch).catch((caught) => caught);
  assert.is(error.code, 'E_PERSIST_SLOW');
  asked = async () => {};
  goOn();
  await until(() => one.status.failure === undefined); // its turn is over by then
  assert.equal(persisted, []);
  assert.equal(onDisk(one), []);
});

test('two daemons do not persist to the same place', async () => {
  const one = persister();
  await one.start();
  const other = persister();
  await other.start();
  assert.is(other.status.failure?.code, 'E_DURABLE_BUSY');
  assert.is(one.status.failure, undefined);
});

test.run();
