import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  Catalogue,
  collectLeftovers,
  type EpochManifest,
  makeEpochManifest,
  type ShadowError,
  StagingShadow,
} from '../../shadow/index.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

const test = suite('catalogue');
let root = '';
let catalogue: Catalogue;

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-catalogue-'));
  catalogue = new Catalogue(join(root, 'epochs'), 'demo');
  await catalogue.prepare();
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function manifest(epoch: number, changes: Partial<EpochManifest> = {}): EpochManifest {
  return makeEpochManifest({
    cluster: 'demo',
    epoch,
    round: roundOf(epoch),
    createdAt: '2030-01-01T00:00:00.000Z',
    members: [{ name: 'a', shadow: 'f'.repeat(64) }],
    ...changes,
  });
}

function roundOf(epoch: number): string {
  return `r${String(epoch).padStart(6, '0')}-0123abcd`;
}

async function emptyShadow(directory: string, round: string): Promise<void> {
  const layout = [{ idstr: 'pc.ram', length: 4096 }];
  const shadow = await StagingShadow.reserve({ directory, member: 'a', round }, layout, 4096);
  shadow.match([{ idstr: 'pc.ram', usedLength: 4096 }]);
  await shadow.seal(SEAL_INPUT);
}

async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: ShadowError) => error.code,
  );
}

test('published epochs are listed, oldest first, and read back whole', async () => {
  for (const epoch of [1, 2, 10]) await catalogue.publish(manifest(epoch));
  const { epochs, damaged } = await catalogue.list();
  assert.equal(
    epochs.map(({ epoch }) => epoch),
    [1, 2, 10],
  );
  assert.equal(damaged, []);
  assert.equal(await catalogue.read(10), manifest(10));
  assert.is(await catalogue.nextEpoch(), 11);
});

test('the number of a removed epoch is not used again', async () => {
  for (const epoch of [1, 2]) await catalogue.publish(manifest(epoch));
  await catalogue.retire(2);
  await catalogue.retire(1);
  assert.is(await catalogue.nextEpoch(), 3);
});

test('on a full filesystem an epoch can be removed, which makes room again', async () => {
  const small = join(root, 'small');
  mkdirSync(small);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'umbra-test', small]);
  try {
    const full = new Catalogue(small, 'demo');
    await full.prepare();
    for (const epoch of [1, 2, 3]) await full.publish(manifest(epoch));
    const { bavail, bsize } = statfsSync(small);
    writeFileSync(join(small, 'ballast'), Buffer.alloc(bavail * bsize));
    assert.is(await codeOf(full.publish(manifest(4))), 'E_STORE_NO_ROOM');
    await full.retire(1);
    writeFileSync(join(small, 'more'), Buffer.alloc(bsize)); // nor is there room afterwards
    await full.retire(3);
    assert.equal(
      (await full.list()).epochs.map(({ epoch }) => epoch),
      [2],
    );
    assert.is(await full.nextEpoch(), 4, 'and its number is not used again');
  } finally {
    execFileSync('umount', [small]);
  }
});

test('on a full filesystem the newest epoch can be removed, even without a .highest', async () => {
  const small = join(root, 'small');
  mkdirSync(small);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'umbra-test', small]);
  try {
    const full = new Catalogue(small, 'demo');
    await full.publish(manifest(7));
    const { bavail, bsize } = statfsSync(small);
    writeFileSync(join(small, 'ballast'), Buffer.alloc(bavail * bsize));
    await full.prepare();
    await full.retire(7);
    assert.equal((await full.list()).epochs, []);
    assert.is(await full.nextEpoch(), 8);
  } finally {
    execFileSync('umount', [small]);
  }
});

test('an epoch is never published twice', async () => {
  await catalogue.publish(manifest(1));
  const other = manifest(1, { round: 'other' });
  assert.is(await codeOf(catalogue.publish(other)), 'E_EPOCH_EXISTS');
  assert.is((await catalogue.read(1)).round, roundOf(1));
});

test('a draft that a crash has left is no epoch, and does not disturb the next one', async () => {
  writeFileSync(join(catalogue.directory, '.000001.json.tmp'), '{"half":');
  assert.equal((await catalogue.list()).epochs, []);
  await catalogue.publish(manifest(1));
  assert.equal(readdirSync(catalogue.directory), ['.highest', '000001.json']);
});

test('the error of an unknown epoch names those there are', async () => {
  await catalogue.publish(manifest(3));
  const error: ShadowError = await catalogue.read(4).catch((caught) => caught);
  assert.is(error.code, 'E_EPOCH_UNKNOWN');
  assert.match(error.message, 'there are: 3');
});

const DAMAGE: readonly (readonly [name: string, code: string, text: (whole: string) => string])[] =
  [
    ['not JSON', 'E_MANIFEST_INVALID', (whole) => whole.slice(0, -20)],
    ['a changed byte', 'E_MANIFEST_INVALID', (whole) => whole.replace('2030', '2031')],
    ['another file’s content', 'E_MANIFEST_INVALID', () => '{"sha256":"x"}'],
    ['too large', 'E_MANIFEST_INVALID', () => ' '.repeat(17 * 2 ** 20)],
    [
      'a newer version',
      'E_MANIFEST_VERSION',
      (whole) => whole.replace('"version":2', '"version":3'),
    ],
  ];

for (const [name, code, harm] of DAMAGE) {
  test(`${name} is found, and the other epochs remain readable`, async () => {
    await catalogue.publish(manifest(1));
    await catalogue.publish(manifest(2));
    const path = join(catalogue.directory, '000002.json');
    writeFileSync(path, harm(readFileSync(path, 'utf8')));
    const { epochs, damaged } = await catalogue.list();
    assert.equal(
      epochs.map(({ epoch }) => epoch),
      [1],
    );
    assert.equal(
      damaged.map(({ epoch, error }) => [epoch, error.code]),
      [[2, code]],
    );
  });
}

test('a manifest under another number is not that epoch', async () => {
  await catalogue.publish(manifest(1));
  const text = readFileSync(join(catalogue.directory, '000001.json'));
  writeFileSync(join(catalogue.directory, '000002.json'), text);
  assert.is(await codeOf(catalogue.read(2)), 'E_MANIFEST_INVALID');
});

test('a manifest cannot name a folder outside the store', async () => {
  await catalogue.publish(manifest(1, { round: '../../etc' }));
  assert.is(await codeOf(catalogue.read(1)), 'E_MANIFEST_INVALID');
});

test('rounds that no epoch names are removed; none while a manifest is unreadable', async () => {
  const shadows = join(root, 'shadows');
  mkdirSync(join(shadows, 'not-ours'), { recursive: true });
  for (const round of [1, 2, 3, 4].map(roundOf)) {
    for (const { name } of manifest(1).members)
      await emptyShadow(join(shadows, round, name), round);
  }
  await catalogue.publish(manifest(1));
  await catalogue.publish(manifest(2));
  const path = join(catalogue.directory, '000002.json');
  const whole = readFileSync(path);
  writeFileSync(path, 'rotten');
  const keep = (round: string) => round === roundOf(4);
  assert.equal(await collectLeftovers(shadows, catalogue, { keep }), []);
  writeFileSync(path, whole);
  assert.equal(await collectLeftovers(shadows, catalogue, { keep }), [roundOf(3)]);
  assert.equal(readdirSync(shadows).sort(), ['not-ours', ...[1, 2, 4].map(roundOf)]);
});

test.run();
