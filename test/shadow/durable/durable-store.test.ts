/** Epochs on disk: mirrored whole, fetched whole, and anything less is found. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { DurableStore, fetchEpoch, Pace, type PersistStep } from '../../../shadow/durable/index.ts';
import { MANIFEST_LIMIT_BYTES, wrap } from '../../../shadow/envelope.ts';
import {
  Catalogue,
  type EpochManifest,
  isUntouched,
  openShadow,
  reclaimHoles,
  type ShadowError,
  sha256Of,
  verifyShadow,
} from '../../../shadow/index.ts';
import { Mapping } from '../../../shadow/mapping.ts';
import { lookAtTree } from '../../support/closed-tree.ts';
import { scratchFolder } from '../../support/scratch.ts';
import { suite } from '../../support/suite.ts';
import { PAGE, PAGES, roundOf, sealEpoch } from './sealed-epoch.ts';

const test = suite('durable store');
let root = '';
let shadows = '';
let back = '';
let store: DurableStore;
/** Disk on which two epochs are, whose damage is tested on copies of it. */
let whole = '';
let pair: readonly EpochManifest[] = [];

test.before(async () => {
  whole = mkdtempSync(join(scratchFolder(), 'umbra-durable-'));
  const sealed = join(whole, 'shadows');
  pair = [await sealEpoch(sealed, 1), await sealEpoch(sealed, 2)];
  const first = new DurableStore(join(whole, 'disk', 'demo'), 'demo');
  for (const epoch of pair) await persist(epoch, quiet, first, sealed);
});
test.after(() => rmSync(whole, { recursive: true, force: true }));

/** Puts both epochs on the disk of a test. @returns their manifests */
function copyPair(): readonly [EpochManifest, EpochManifest] {
  cpSync(join(whole, 'disk'), join(root, 'disk'), { recursive: true, preserveTimestamps: true });
  return pair as [EpochManifest, EpochManifest];
}

test.before.each(async () => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-durable-'));
  shadows = join(root, 'shadows');
  back = join(root, 'back');
  store = new DurableStore(join(root, 'disk', 'demo'), 'demo');
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

const quiet = () => {};

async function persist(
  epoch: EpochManifest,
  onStep: (step: PersistStep) => void = quiet,
  to = store,
  from = shadows,
): Promise<number[]> {
  const done: number[] = [];
  const pace = new Pace(undefined, { now: () => 0, sleep: async () => {} });
  const onProgress = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) => {
    done.push(doneBytes / totalBytes);
  };
  await to.persistShadows(epoch, from, { pace, onStep, onProgress, parallel: 2 });
  await to.publish(epoch, onStep);
  return done;
}

/** Reads an epoch's manifest from disk. */
function listed(epoch: number): Promise<EpochManifest> {
  return new Catalogue(join(store.directory, 'epochs'), 'demo').read(epoch);
}

/** Fetches all of an epoch into `back`. */
async function fetch(epoch: number): Promise<void> {
  for (const name of await store.shadows(await listed(epoch))) {
    await store.fetch(name, join(back, name.round, name.member), quiet);
  }
}

function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return work.then(
    () => undefined,
    (error: ShadowError) => error.code,
  );
}

function filesBelow(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => statSync(join(folder, name)).isFile()).sort();
}

const disk = (epoch: number, member: string, file = '') =>
  join(store.directory, 'rounds', roundOf(epoch), member, file);

function flip(path: string, at = Math.floor(statSync(path).size / 2)): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
}

test('files on disk, and files fetched, are closed to others, whatever the umask', async () => {
  const before = process.umask(0);
  try {
    await persist(await sealEpoch(shadows, 1));
    await fetch(1);
  } finally {
    process.umask(before);
  }
  for (const folder of [join(root, 'disk'), back]) {
    const { files, open } = lookAtTree(folder);
    assert.ok(files > 8);
    assert.equal(open, []);
  }
});

test('a folder on disk that other users may enter is not used', async () => {
  mkdirSync(store.directory, { recursive: true });
  chmodSync(store.directory, 0o755);
  assert.is(await codeOf(store.prepare()), 'E_FOLDER_UNSAFE');
});

test('a shadow.json that claims to be longer than any manifest is not unpacked', async () => {
  await persist(await sealEpoch(shadows, 1, ['a']));
  const path = disk(1, 'a', 'durable.json');
  const { body } = JSON.parse(readFileSync(path, 'utf8')) as {
    body: { files: { file: string }[] };
  };
  const files = body.files.map((one) => {
    return one.file === 'shadow.json' ? { ...one, bytes: MANIFEST_LIMIT_BYTES + 1 } : one;
  });
  writeFileSync(path, wrap({ ...body, files }));
  const verified = store.verify(await listed(1), quiet);
  assert.is(await codeOf(verified), 'E_MANIFEST_INVALID');
});

test('a fetch makes the folder as it was sealed, bytes and holes', async () => {
  const epoch = await sealEpoch(shadows, 1);
  const progress = await persist(epoch);
  assert.is(progress.at(-1), 1);
  rmSync(back, { recursive: true, force: true });
  await fetch(1);
  for (const file of filesBelow(shadows)) {
    const [before, after] = [join(shadows, file), join(back, file)];
    assert.ok(readFileSync(after).equals(readFileSync(before)), file);
    assert.is(statSync(after).blocks, statSync(before).blocks, `${file}: memory it takes`);
  }
  assert.equal(await listed(1), epoch);
  const { epochs, damaged } = await store.list();
  assert.equal([epochs.length, damaged.length], [1, 0]);
});

test('after a fetch the digests need not be read again, until a file is touched', async () => {
  const epoch = await sealEpoch(shadows, 1);
  await persist(epoch);
  await fetch(1);
  const directory = join(back, epoch.round, 'a');
  const shadow = await openShadow(directory, epoch.members[0]?.shadow);
  assert.ok(await isUntouched(shadow));
  // The witnesses are those of the fetched files: the manifest's own are of files that are gone.
  const path = join(directory, 'ram-0.img');
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.from('x'), 0, 1, 7 * PAGE);
  closeSync(fd);
  assert.is(await codeOf(verifyShadow(shadow, 'changed')), 'E_EPOCH_CORRUPT');
});

test('persisting again writes nothing again', async () => {
  const epoch = await sealEpoch(shadows, 1);
  await persist(epoch);
  const before = statSync(disk(1, 'a', 'ram-0.img.umbra')).ino;
  const steps: string[] = [];
  await persist(epoch, (step) => steps.push(step));
  assert.is(statSync(disk(1, 'a', 'ram-0.img.umbra')).ino, before);
  assert.not(steps.includes('file/opened'));
});

test('an interrupted persist is continued, file by file', async () => {
  const epoch = await sealEpoch(shadows, 1, ['a']);
  let named = 0;
  const stop = (step: PersistStep) => {
    if (step === 'file/named' && ++named === 2) throw new Error('interrupted');
  };
  await persist(epoch, stop).catch(quiet);
  assert.equal((await store.list()).epochs, []);
  assert.not(existsSync(disk(1, 'a', 'durable.json')));
  const kept = readdirSync(disk(1, 'a')).filter((name) => name.endsWith('.umbra'));
  assert.is(kept.length, 2);
  const inodes = kept.map((name) => statSync(disk(1, 'a', name)).ino);
  writeFileSync(disk(1, 'a', 'ram-0.img.umbra.part'), 'half');
  writeFileSync(disk(1, 'a', 'device-state.bin.umbra'), 'another’s');
  await persist(epoch);
  assert.equal(
    kept.map((name) => statSync(disk(1, 'a', name)).ino),
    inodes,
  );
  await store.verify(epoch, quiet);
  assert.not(readdirSync(disk(1, 'a')).some((name) => name.endsWith('.part')));
});

test('a shadow that changed since its seal, or changes now, does not become durable', async () => {
  const epoch = await sealEpoch(shadows, 1, ['a']);
  const image = join(shadows, epoch.round, 'a', 'ram-0.img');
  const scribble = () => {
    const fd = openSync(image, 'r+');
    writeSync(fd, Buffer.from('x'), 0, 1, 7 * PAGE);
    closeSync(fd);
  };
  utimesSync(image, 1, 1); // the clock of file times ticks too slowly to tell two writes apart
  let scribbled = false;
  const during = persist(epoch, (step) => {
    if (step !== 'file/opened' || scribbled) return;
    scribble();
    scribbled = true;
  });
  assert.is(await codeOf(during), 'E_EPOCH_CORRUPT');
  assert.is(await codeOf(persist(epoch)), 'E_EPOCH_CORRUPT');
  assert.equal((await store.list()).epochs, []);
});

test('an image that is touched while it is read, and stays the same, becomes durable', async () => {
  const epoch = await sealEpoch(shadows, 1, ['a']);
  const image = join(shadows, epoch.round, 'a', 'ram-0.img');
  let opened = 0;
  await persist(epoch, (step) => {
    if (step === 'file/opened' && opened++ === 0) utimesSync(image, 1, 1);
  });
  assert.is(opened, 8 + 1, 'it is read again, and none of the others');
  await fetch(1);
  assert.ok(readFileSync(join(back, epoch.round, 'a', 'ram-0.img')).equals(readFileSync(image)));
});

test('an image whose holes are freed while it is read becomes durable', async () => {
  const epoch = await sealEpoch(shadows, 1, ['a']);
  const directory = join(shadows, epoch.round, 'a');
  const image = join(directory, 'ram-0.img');
  const sealed = statSync(image).blocks;
  const mapping = new Mapping(image, PAGES * PAGE);
  mapping.copy(0, Buffer.alloc(PAGES * PAGE)); // as a VM reads it that was restored from it
  mapping.close();
  assert.ok(statSync(image).blocks > sealed);
  const shadow = await openShadow(directory);
  let reclaimed: Promise<number> | undefined;
  await persist(epoch, (step) => {
    if (step === 'file/opened') reclaimed ??= reclaimHoles(shadow);
  });
  assert.ok(await reclaimed);
  assert.is(statSync(image).blocks, sealed);
  await store.verify(epoch, quiet);
});

test('a base that two epochs share is persisted once, fetched, and collected last', async () => {
  const base = await sealEpoch(shadows, 1);
  const deltas = [];
  for (const epoch of [2, 3]) {
    deltas.push(await sealEpoch(shadows, epoch, ['a', 'b'], base));
  }
  const [second, third] = deltas as [EpochManifest, EpochManifest];
  await persist(second);
  assert.ok(existsSync(disk(1, 'a', 'durable.json')), 'the base came along');
  const inode = statSync(disk(1, 'a', 'ram-0.img.umbra')).ino;
  await persist(third);
  assert.is(statSync(disk(1, 'a', 'ram-0.img.umbra')).ino, inode);
  const names = (await store.shadows(third)).map(({ round, member }) => join(round, member));
  assert.equal(
    names,
    [1, 3].flatMap((epoch) => ['a', 'b'].map((member) => join(roundOf(epoch), member))),
  );
  await fetch(3);
  const path = join(back, roundOf(3), 'b');
  await verifyShadow(await openShadow(path, third.members[1]?.shadow), 'all');
  await store.retire([2], quiet);
  assert.equal(readdirSync(join(store.directory, 'rounds')).sort(), [roundOf(1), roundOf(3)]);
  await store.retire([3], quiet);
  assert.equal(readdirSync(join(store.directory, 'rounds')), []);
  assert.is(await store.nextEpoch(), 4);
});

test('nothing is collected while a manifest cannot be read', async () => {
  copyPair();
  const path = join(store.directory, 'epochs', '000002.json');
  const text = readFileSync(path);
  mkdirSync(disk(9, 'a'), { recursive: true });
  writeFileSync(path, 'rotten');
  assert.equal(await store.collect(), []);
  writeFileSync(path, text);
  assert.equal(await store.collect(), [join(roundOf(9), 'a')]);
});

test('another epoch under the same number is not overwritten', async () => {
  const epoch = await sealEpoch(shadows, 1);
  await persist(epoch);
  const other = { ...epoch, createdAt: '2031-01-01T00:00:00.000Z' };
  assert.is(await codeOf(store.publish(other, quiet)), 'E_EPOCH_EXISTS');
  assert.is((await listed(1)).createdAt, epoch.createdAt);
});

const STAGING = roundOf(900);

function fetchInto(epoch: EpochManifest, more: object = {}): Promise<number> {
  return fetchEpoch(store, epoch, {
    shadowsDirectory: shadows,
    staging: STAGING,
    trust: 'all',
    headroomBytes: 0,
    onProgress: quiet,
    ...more,
  });
}

test('a fetch brings what is missing or damaged, and leaves alone what is whole', async () => {
  const base = await sealEpoch(shadows, 1);
  const delta = await sealEpoch(shadows, 2, ['a', 'b'], base);
  await persist(base);
  await persist(delta);
  const image = (epoch: number, member: string) =>
    join(shadows, roundOf(epoch), member, epoch === 1 ? 'ram-0.img' : 'ram-0.delta');
  const content = readFileSync(image(1, 'a'));
  const kept = statSync(image(1, 'b')).ino;
  assert.is(await fetchInto(delta), 0);
  rmSync(join(shadows, roundOf(2)), { recursive: true });
  flip(image(1, 'a'), 7 * PAGE);
  assert.ok((await fetchInto(delta)) > 0);
  assert.ok(readFileSync(image(1, 'a')).equals(content));
  assert.is(statSync(image(1, 'b')).ino, kept);
  for (const { name, shadow } of delta.members) {
    await verifyShadow(await openShadow(join(shadows, delta.round, name), shadow), 'all');
  }
  assert.not(existsSync(join(shadows, STAGING)));
});

test('a fetch that does not fit is refused before a byte is written', async () => {
  const epoch = await sealEpoch(shadows, 1);
  await persist(epoch);
  rmSync(join(shadows, epoch.round), { recursive: true });
  const refused = fetchInto(epoch, { headroomBytes: 2 ** 50 });
  assert.is(await codeOf(refused), 'E_STORE_NO_ROOM');
  assert.equal(readdirSync(shadows), []);
});

test('a fetch that finds damage leaves nothing where a shadow belongs', async () => {
  const epoch = await sealEpoch(shadows, 1, ['a']);
  await persist(epoch);
  rmSync(join(shadows, epoch.round), { recursive: true });
  flip(disk(1, 'a', 'ram-0.img.umbra'));
  assert.is(await codeOf(fetchInto(epoch)), 'E_EPOCH_CORRUPT');
  assert.equal(readdirSync(shadows), []);
});

type Durable = { readonly files: readonly { readonly file: string }[] };

/** Changes a durable.json, and gives it a digest to match. */
function forge(epoch: number, member: string, change: (body: Durable) => object): void {
  const path = disk(epoch, member, 'durable.json');
  const { body } = JSON.parse(readFileSync(path, 'utf8')) as { body: Durable };
  const forged = change(body);
  writeFileSync(path, JSON.stringify({ sha256: sha256Of(JSON.stringify(forged)), body: forged }));
}

/** Damage to a folder on disk, and the code it is found by. */
const HARM: readonly (readonly [name: string, code: string, harm: () => void])[] = [
  ['a flipped bit in an image', 'E_EPOCH_CORRUPT', () => flip(disk(1, 'a', 'ram-0.img.umbra'))],
  [
    'a flipped bit in device state',
    'E_EPOCH_CORRUPT',
    () => flip(disk(1, 'a', 'device-state.bin.umbra')),
  ],
  [
    'a flipped bit in shadow.json',
    'E_EPOCH_CORRUPT',
    () => flip(disk(1, 'b', 'shadow.json.umbra')),
  ],
  ['a flipped bit in durable.json', 'E_MANIFEST_INVALID', () => flip(disk(1, 'a', 'durable.json'))],
  ['a missing container', 'E_EPOCH_CORRUPT', () => rmSync(disk(1, 'a', 'ram-1.img.umbra'))],
  ['a missing durable.json', 'E_EPOCH_CORRUPT', () => rmSync(disk(1, 'b', 'durable.json'))],
  ...(['ram-1.img', 'shadow.json'] as const).map(
    (left) =>
      [
        `a durable.json that leaves out ${left}`,
        'E_EPOCH_CORRUPT',
        () =>
          forge(1, 'a', ({ files, ...rest }) => {
            return { ...rest, files: files.filter(({ file }) => file !== left) };
          }),
      ] as const,
  ),
  ['a missing folder', 'E_EPOCH_CORRUPT', () => rmSync(disk(1, 'b'), { recursive: true })],
  [
    'members swapped',
    'E_EPOCH_CORRUPT',
    () => {
      renameSync(disk(1, 'a'), disk(1, 'c'));
      renameSync(disk(1, 'b'), disk(1, 'a'));
      renameSync(disk(1, 'c'), disk(1, 'b'));
    },
  ],
  [
    'containers of two members swapped',
    'E_EPOCH_CORRUPT',
    () => copyFileSync(disk(1, 'b', 'ram-0.img.umbra'), disk(1, 'a', 'ram-0.img.umbra')),
  ],
  [
    'containers of two files swapped',
    'E_EPOCH_CORRUPT',
    () => copyFileSync(disk(1, 'a', 'ram-1.img.umbra'), disk(1, 'a', 'ram-0.img.umbra')),
  ],
  [
    'another epoch’s folder',
    'E_EPOCH_CORRUPT',
    () => {
      rmSync(disk(1, 'a'), { recursive: true });
      renameSync(disk(2, 'a'), disk(1, 'a'));
    },
  ],
];

for (const [name, code, harm] of HARM) {
  test(`${name}: found by verify and by fetch, and the other epoch stays whole`, async () => {
    const [one, two] = copyPair();
    harm();
    assert.is(await codeOf(store.verify(one, quiet)), code, 'verify');
    assert.is(await codeOf(fetch(1)), code, 'fetch');
    if (name.startsWith('another')) return;
    await store.verify(two, quiet);
    await fetch(2);
  });
}

test('swapped epoch manifests are not those epochs', async () => {
  copyPair();
  const path = (epoch: number) => join(store.directory, 'epochs', `00000${epoch}.json`);
  const [first, second] = [readFileSync(path(1)), readFileSync(path(2))];
  writeFileSync(path(1), second);
  writeFileSync(path(2), first);
  const { epochs, damaged } = await store.list();
  assert.equal(epochs, []);
  assert.equal(
    damaged.map(({ error }) => error.code),
    ['E_MANIFEST_INVALID', 'E_MANIFEST_INVALID'],
  );
});

test('a durable.json of another version is refused, and not written over', async () => {
  const epoch = await sealEpoch(shadows, 1);
  await persist(epoch);
  for (const version of [0, 3]) {
    forge(1, 'a', (body) => ({ ...body, version }));
    const path = disk(1, 'a', 'durable.json');
    const written = readFileSync(path, 'utf8');
    assert.is(await codeOf(store.verify(epoch, quiet)), 'E_MANIFEST_VERSION');
    assert.is(await codeOf(fetch(1)), 'E_MANIFEST_VERSION');
    assert.is(await codeOf(persist(epoch)), 'E_MANIFEST_VERSION');
    assert.is(readFileSync(path, 'utf8'), written);
  }
});

test('a durable.json with an unknown feature is refused, and not written over', async () => {
  const epoch = await sealEpoch(shadows, 1);
  await persist(epoch);
  forge(1, 'a', (body) => ({ ...body, requires: ['stripes'] }));
  assert.is(await codeOf(fetch(1)), 'E_MANIFEST_FEATURE');
  assert.is(await codeOf(persist(epoch)), 'E_MANIFEST_FEATURE');
});

test('names in a manifest do not reach out of their folder', async () => {
  copyPair();
  forge(1, 'a', ({ files, ...rest }) => {
    return { ...rest, files: files.map((one) => ({ ...one, file: '../../b/ram-0.img' })) };
  });
  assert.is(await codeOf(fetch(1)), 'E_MANIFEST_INVALID');
});

test('a folder that cannot be made is reported by its code', async () => {
  writeFileSync(join(root, 'file'), '');
  const nowhere = new DurableStore(join(root, 'file', 'demo'), 'demo');
  const epoch = await sealEpoch(shadows, 1);
  assert.is(await codeOf(persist(epoch, quiet, nowhere)), 'E_DURABLE_IO');
});

test('a full disk is reported by its code; with room again the epoch is persisted', async () => {
  const small = join(root, 'small');
  mkdirSync(small);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'umbra-test', small]);
  try {
    const epoch = await sealEpoch(shadows, 1);
    const full = new DurableStore(join(small, 'demo'), 'demo');
    assert.is(await codeOf(persist(epoch, quiet, full)), 'E_DURABLE_NO_ROOM');
    assert.equal((await full.list()).epochs, []);
    await full.collect();
    assert.equal(filesBelow(join(full.directory, 'rounds')), [], 'it does not stay full');
    execFileSync('mount', ['-o', 'remount,size=64m', small]);
    await persist(epoch, quiet, full);
    await full.verify(epoch, quiet);
    assert.match((await full.doubt(shadows)) ?? '', 'in memory');
  } finally {
    execFileSync('umount', [small]);
  }
});

test.run();
