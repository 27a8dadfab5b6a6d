/**
 * Power cut at every named step of persisting: every epoch that is listed afterwards is fetched
 * whole, the next attempt completes the interrupted one, and nothing is left over.
 */
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { DurableStore, PERSIST_STEPS, type PersistStep } from '../../../shadow/durable/index.ts';
import type { EpochManifest } from '../../../shadow/index.ts';
import { type Bundled, bundled } from '../../support/bundled.ts';
import { scratchFolder } from '../../support/scratch.ts';
import { suite } from '../../support/suite.ts';
import { persistAndRetire, roundOf, sealEpoch } from './sealed-epoch.ts';

const CHILD = fileURLToPath(new URL('persist-child.ts', import.meta.url));
/** Steps that are taken once a file or member: they are cut at a later one, too. */
const REPEATED: Readonly<Partial<Record<PersistStep, number>>> = {
  'shadow/folder': 2,
  'file/opened': 4,
  'file/batch': 5,
  'file/named': 9,
  'shadow/manifest-named': 2,
};

const test = suite('power cut');
let root = '';
let shadows = '';
let store: DurableStore;
let epochs: EpochManifest[] = [];
let child: Bundled;

test.before(async () => {
  child = await bundled(CHILD);
  root = mkdtempSync(join(scratchFolder(), 'umbra-cut-'));
  shadows = join(root, 'shadows');
  const [one, two] = [await sealEpoch(shadows, 1), await sealEpoch(shadows, 2)];
  epochs = [one, two];
  for (const epoch of epochs) writeFileSync(fileOf(epoch), JSON.stringify(epoch));
  store = new DurableStore(join(root, 'first', 'demo'), 'demo');
  await persist(one);
});
test.after(() => {
  child.remove();
  rmSync(root, { recursive: true, force: true });
});

/** Each test has a disk of its own, on which the first epoch is. */
test.before.each(() => {
  const disk = join(root, 'disk');
  cpSync(join(root, 'first'), disk, { recursive: true, preserveTimestamps: true });
  store = new DurableStore(join(disk, 'demo'), 'demo');
});
test.after.each(() => {
  for (const folder of ['disk', 'back'])
    rmSync(join(root, folder), { recursive: true, force: true });
});

const fileOf = ({ epoch }: EpochManifest) => join(root, `${epoch}.json`);

const persist = (epoch: EpochManifest) => persistAndRetire(store, shadows, epoch, () => {});

/** Persists in a process that is killed at a step. @returns how that process ended */
function persistUntil(epoch: EpochManifest, step: PersistStep, occurrence = 1): Promise<string> {
  const args = [store.directory, shadows, fileOf(epoch), step, String(occurrence)];
  const persisting = spawn(process.execPath, [child.path, ...args], { stdio: 'inherit' });
  return new Promise((resolve) => {
    persisting.once('exit', (code, signal) => resolve(signal ?? String(code)));
  });
}

/** Fetches every epoch that is listed, and compares it byte for byte. @returns their numbers */
async function fetchAll(): Promise<number[]> {
  const { epochs: listed, damaged } = await store.list();
  assert.equal(damaged, []);
  for (const epoch of listed) {
    const back = join(root, 'back');
    rmSync(back, { recursive: true, force: true });
    await store.verify(epoch, () => {});
    for (const name of await store.shadows(epoch)) {
      const target = join(back, name.round, name.member);
      await store.fetch(name, target, () => {});
      for (const file of readdirSync(join(shadows, name.round, name.member))) {
        const before = readFileSync(join(shadows, name.round, name.member, file));
        assert.ok(readFileSync(join(target, file)).equals(before), `${name.round} ${file}`);
      }
    }
  }
  return listed.map(({ epoch }) => epoch);
}

function rounds(): string[] {
  const folder = join(store.directory, 'rounds');
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

const CUTS = PERSIST_STEPS.flatMap((step) => {
  const later = REPEATED[step];
  return [{ step, occurrence: 1 }, ...(later === undefined ? [] : [{ step, occurrence: later }])];
});

for (const { step, occurrence } of CUTS) {
  test(`at ${step}, time ${occurrence}`, async () => {
    const [, two] = epochs as [EpochManifest, EpochManifest];
    assert.is(await persistUntil(two, step, occurrence), 'SIGKILL', 'the step was reached');
    const listed = await fetchAll();
    const published = PERSIST_STEPS.indexOf(step) >= PERSIST_STEPS.indexOf('epoch/named');
    assert.is(listed.includes(2), published, 'an epoch is listed from that step on');
    assert.ok(listed.length > 0, 'one is always there');

    await persist(two);
    assert.equal(await fetchAll(), [2]);
    assert.equal(rounds(), [roundOf(2)]);
    assert.equal(readdirSync(join(store.directory, 'epochs')).sort(), ['.highest', '000002.json']);
    const members = readdirSync(join(store.directory, 'rounds', roundOf(2), 'a'));
    assert.ok(
      members.every((name) => name === 'durable.json' || name.endsWith('.umbra')),
      members.join(),
    );
  });
}

test('an interrupted persist that is not continued is collected', async () => {
  const [, two] = epochs as [EpochManifest, EpochManifest];
  assert.is(await persistUntil(two, 'epoch/drafted'), 'SIGKILL');
  assert.ok(rounds().includes(roundOf(2)));
  await store.collect();
  assert.equal(rounds(), [roundOf(1)]);
  assert.equal(readdirSync(join(store.directory, 'epochs')).sort(), ['.highest', '000001.json']);
});

test.run();
