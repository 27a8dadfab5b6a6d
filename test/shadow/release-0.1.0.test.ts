/**
 * Reads, restores, verifies, folds and persists files that Umbra 0.1.0 wrote:
 * release-0.1.0/README.md says what they are. Epochs of 0.1.0 stay readable until 0.3.0.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RoundArchive } from '../../proxy/coordinator/rounds/round-archive.ts';
import { Journal } from '../../proxy/member/repair/journal.ts';
import { DurableStore, fetchEpoch, Pace } from '../../shadow/durable/index.ts';
import { takeFileStamp } from '../../shadow/file-stamp.ts';
import {
  Catalogue,
  collectLeftovers,
  type EpochManifest,
  foldShadow,
  isUntouched,
  markMapped,
  measureEpochs,
  openShadow,
  pinnedEpochs,
  populate,
  pruneSpares,
  readShadowFile,
  reclaimHoles,
  SealedRam,
  type SealedShadow,
  type ShadowError,
  StagingShadow,
  verifyShadow,
} from '../../shadow/index.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

const FILES = fileURLToPath(new URL('release-0.1.0/files.tar.gz', import.meta.url));
const ROUND_4 = 'r000004-0123abcd';
const quiet = () => {};

/** Facts that the script of the files noted: what it had the release write. */
interface Expected {
  readonly epochs: Readonly<Record<string, Readonly<Record<string, ExpectedMember>>>>;
  readonly recycled: number;
  readonly saved: unknown;
  readonly processes: { readonly vm: unknown; readonly reader: unknown };
}

interface ExpectedMember {
  /** SHA-256 of each RAM block. */
  readonly memory: Readonly<Record<string, string>>;
  readonly deviceState: string;
}

const test = suite('files of release 0.1.0');
let root = '';
let shadows = '';
let catalogue: Catalogue;
let store: DurableStore;
let expected: Expected;

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-release-'));
  execFileSync('tar', ['-xzf', FILES, '-C', root]);
  shadows = join(root, 'shadows');
  catalogue = new Catalogue(join(root, 'epochs'), 'demo');
  store = new DurableStore(join(root, 'durable', 'demo'), 'demo');
  expected = JSON.parse(readFileSync(join(root, 'expected.json'), 'utf8')) as Expected;
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function open({ round, members }: EpochManifest, at: number): Promise<SealedShadow> {
  const member = members[at];
  return openShadow(join(shadows, round, member?.name ?? ''), member?.shadow);
}

/** Reads all RAM of a shadow. @returns the SHA-256 of each block */
async function memoryOf(shadow: SealedShadow): Promise<Record<string, string>> {
  const { blocks, pageSize } = shadow.manifest;
  const ram = await SealedRam.open(shadow);
  const digests: Record<string, string> = {};
  try {
    for (const [index, { idstr, bytes }] of blocks.entries()) {
      const hash = createHash('sha256');
      for (let offset = 0; offset < bytes; offset += pageSize) {
        const page = Buffer.alloc(pageSize);
        ram.read(index, offset, page, 0);
        hash.update(page);
      }
      digests[idstr] = hash.digest('hex');
    }
  } finally {
    ram.close();
  }
  return digests;
}

/** Checks that an epoch's shadows hold, byte for byte, what the release was given to write. */
async function requireWhole(epoch: EpochManifest): Promise<void> {
  for (const [at, { name }] of epoch.members.entries()) {
    const shadow = await open(epoch, at);
    await verifyShadow(shadow, 'all');
    const wanted = expected.epochs[epoch.epoch]?.[name];
    assert.equal(await memoryOf(shadow), wanted?.memory, `${name} of epoch ${epoch.epoch}`);
    const { deviceState, configuration } = shadow.manifest;
    const devices = await readShadowFile(shadow.directory, deviceState);
    assert.is(sha256(devices), wanted?.deviceState);
    const first = await readShadowFile(shadow.directory, configuration);
    assert.is(first.toString(), `configuration of ${name}`);
  }
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

function versionIn(path: string): number {
  const { body } = JSON.parse(readFileSync(path, 'utf8')) as { body: { version: number } };
  return body.version;
}

/** Reads every file below a folder. @returns their digests by name */
function contentOf(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.filter((name) => statSync(join(folder, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, sha256(readFileSync(join(folder, name)))]));
}

function flip(path: string, at: number): void {
  const changed = (readFileSync(path)[at] ?? 0) ^ 1;
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.from([changed]), 0, 1, at);
  closeSync(fd);
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return work.then(
    () => undefined,
    (error: ShadowError) => error.code,
  );
}

async function persist(epoch: EpochManifest): Promise<void> {
  const pace = new Pace(undefined, { now: () => 0, sleep: async () => {} });
  const options = { pace, onStep: quiet, onProgress: quiet, parallel: 1 };
  await store.persistShadows(epoch, shadows, options);
  await store.publish(epoch, quiet);
}

test('the files have the versions of 0.1.0', () => {
  assert.is(versionIn(join(catalogue.directory, '000003.json')), 1);
  assert.is(versionIn(join(shadows, 'r000003-0123abcd', 'a', 'shadow.json')), 2);
  const durable = join(store.directory, 'rounds', 'r000003-0123abcd', 'a');
  assert.is(versionIn(join(durable, 'durable.json')), 1);
  assert.is(readFileSync(join(durable, 'ram-0.delta.umbra')).readUInt32LE(8), 1);
  const index = join(shadows, 'r000003-0123abcd', 'a', 'ram-0.idx');
  assert.is(readFileSync(index).readUInt32LE(8), 1);
});

test('epochs are listed with their pins and disks, and the next number is known', async () => {
  const { epochs, damaged } = await catalogue.list();
  assert.equal(damaged, []);
  assert.equal(
    epochs.map(({ epoch, createdAt }) => [epoch, createdAt]),
    [
      [2, '2026-01-01T00:00:02.000Z'],
      [3, '2026-01-01T00:00:03.000Z'],
    ],
  );
  assert.equal([...(await pinnedEpochs(catalogue.directory))], [3]);
  assert.is(await catalogue.nextEpoch(), 4);
  const disks = [{ device: 'hd0', layers: [{ path: '/vms/b.qcow2', format: 'qcow2' }] }];
  assert.equal(
    epochs[1]?.members.map((member) => member.disks),
    [undefined, disks],
  );
  assert.ok(((await measureEpochs(shadows, epochs)).get(3)?.ownBytes ?? 0) > 0);
});

test('a whole epoch and a delta verify, and hold what was written', async () => {
  for (const epoch of (await catalogue.list()).epochs) await requireWhole(epoch);
  const shadow = await open(await catalogue.read(3), 1);
  assert.ok(shadow.base);
  assert.is(shadow.manifest.identity.domainXml, '<domain/>');
  assert.is(shadow.manifest.identity.machineType, 'pc-i440fx-7.2');
});

test('on another host no stamp agrees: all is read, and a flipped bit is found', async () => {
  const epoch = await catalogue.read(3);
  const shadow = await open(epoch, 0);
  assert.is(await isUntouched(shadow), false);
  await verifyShadow(shadow, 'changed');
  flip(join(shadow.base?.directory ?? '', 'ram-0.img'), 5000);
  assert.is(await codeOf(verifyShadow(shadow, 'changed')), 'E_EPOCH_CORRUPT');
  assert.is(await codeOf(verifyShadow(shadow, 'all')), 'E_EPOCH_CORRUPT');
});

test('a delta is folded, and its epoch replaced by one of this version', async () => {
  const epoch = await catalogue.read(3);
  const before = contentOf(shadows);
  const members = [];
  for (const [at, member] of epoch.members.entries()) {
    const directory = join(shadows, ROUND_4, member.name);
    const location = { directory, member: member.name, round: ROUND_4 };
    const signal = new AbortController().signal;
    const { sha256: shadow } = await foldShadow(await open(epoch, at), location, signal);
    members.push({ ...member, shadow });
  }
  await catalogue.replace({ ...epoch, round: ROUND_4, members });
  const folded = await catalogue.read(3);
  assert.is(versionIn(join(catalogue.directory, '000003.json')), 2);
  assert.is(versionIn(join(shadows, ROUND_4, 'a', 'shadow.json')), 3);
  assert.is((await open(folded, 0)).base, undefined);
  await requireWhole(folded);
  const after = contentOf(shadows);
  for (const [file, digest] of Object.entries(before)) assert.is(after[file], digest, file);
});

test('a new epoch is taken as a delta of an old one, and stored beside it on disk', async () => {
  const base = await open(await catalogue.read(2), 1);
  const location = { directory: join(shadows, ROUND_4, 'b'), member: 'b', round: ROUND_4 };
  const { pageSize, blocks } = base.manifest;
  const length = blocks[0]?.bytes ?? 0;
  const options = { base, reservedBytes: pageSize, moreBytes: length, headroomBytes: 0 };
  const layout = [{ idstr: 'pc.ram', length }];
  const staged = await StagingShadow.reserve(location, layout, pageSize, options);
  const [image] = staged.match([{ idstr: 'pc.ram', usedLength: length }]);
  const ram = await SealedRam.open(base);
  for (let offset = 0; offset < length; offset += pageSize) {
    const page = Buffer.alloc(pageSize);
    if (offset === 0) page.fill('new');
    else ram.read(0, offset, page, 0);
    image?.writePage(offset, page, 0);
    image?.flush();
  }
  ram.close();
  const { sha256: shadow, storedBytes } = await staged.seal(SEAL_INPUT);
  assert.ok(storedBytes <= 4 * pageSize, 'the page that differs, and pages of zeros sent as pages');
  const old = await catalogue.read(2);
  const members = [{ name: 'b', shadow }];
  await catalogue.publish({ ...old, epoch: 4, round: ROUND_4, members });
  const epoch = await catalogue.read(4);
  await verifyShadow(await open(epoch, 0), 'all');
  const before = contentOf(store.directory);
  await persist(epoch);
  await store.verify(epoch, quiet);
  const after = contentOf(store.directory);
  for (const [file, digest] of Object.entries(before)) assert.is(after[file], digest, file);
});

test('epochs on disk are listed, pinned, verified, and fetched into an empty store', async () => {
  const { epochs, damaged } = await store.list();
  assert.equal([epochs.map(({ epoch }) => epoch), damaged], [[2, 3], []]);
  assert.equal(await store.pinned(), [3]);
  assert.is(await store.nextEpoch(), 4);
  for (const epoch of epochs) await store.verify(epoch, quiet);
  const [, epoch] = epochs;
  rmSync(shadows, { recursive: true });
  mkdirSync(shadows);
  await fetchEpoch(store, epoch as EpochManifest, {
    shadowsDirectory: shadows,
    staging: 'r000009-0123abcd',
    trust: 'all',
    headroomBytes: 0,
    onProgress: quiet,
  });
  await requireWhole(epoch as EpochManifest);
  const shadow = await open(epoch as EpochManifest, 0);
  assert.is(versionIn(join(shadow.directory, 'shadow.json')), 2, 'its digest names its bytes');
  assert.is(await isUntouched(shadow), true);
});

test('persisting again leaves every byte on disk as 0.1.0 wrote it', async () => {
  const before = contentOf(join(store.directory, 'rounds'));
  for (const epoch of (await catalogue.list()).epochs) await persist(epoch);
  assert.equal(contentOf(join(store.directory, 'rounds')), before);
  for (const epoch of (await store.list()).epochs) await store.verify(epoch, quiet);
});

test('a persist that 0.1.0 had begun is completed, and its containers are kept', async () => {
  const folder = join(store.directory, 'rounds', 'r000003-0123abcd', 'a');
  for (const file of ['durable.json', 'vmdesc.json.umbra']) rmSync(join(folder, file));
  const kept = join(folder, 'ram-0.delta.umbra');
  const { ino } = statSync(kept);
  await persist(await catalogue.read(3));
  assert.is(statSync(kept).ino, ino);
  assert.is(readFileSync(kept).readUInt32LE(8), 1);
  assert.is(readFileSync(join(folder, 'vmdesc.json.umbra')).readUInt32LE(8), 2);
  assert.is(versionIn(join(folder, 'durable.json')), 2);
  await store.verify(await catalogue.read(3), quiet);
});

test('holes of an image that a VM has read are freed', async () => {
  const epoch = await catalogue.read(2);
  rmSync(join(shadows, epoch.round), { recursive: true });
  await fetchEpoch(store, epoch, {
    shadowsDirectory: shadows,
    staging: 'r000009-0123abcd',
    trust: 'all',
    headroomBytes: 0,
    onProgress: quiet,
  });
  const shadow = await open(epoch, 0);
  markMapped(shadow.directory);
  if (!(await populate(join(shadow.directory, 'ram-0.img')))) return; // before Linux 5.14
  assert.ok((await reclaimHoles(shadow)) > 0);
  assert.is(await isUntouched(shadow), true);
});

test('stamps that were taken anew are read without a version, as 0.1.0 wrote them', async () => {
  const shadow = await open(await catalogue.read(2), 0);
  const { files: old } = readStamps(shadow);
  assert.equal(Object.keys(old), ['ram-0.img']);
  const names = readdirSync(shadow.directory).filter((name) => name.includes('.'));
  const files = Object.fromEntries(
    names.map((name) => [name, takeFileStamp(join(shadow.directory, name))]),
  );
  const content = { shadow: shadow.sha256, files };
  const path = join(shadow.directory, 'witnesses.json');
  for (const [more, untouched] of [
    [{}, true],
    [{ version: 2 }, true],
    [{ version: 3 }, false],
    [{ version: 2, requires: ['stripes'] }, false],
  ] as const) {
    writeFileSync(path, JSON.stringify({ ...more, ...content }));
    assert.is(await isUntouched(shadow), untouched, JSON.stringify(more));
  }
});

function readStamps({ directory }: SealedShadow): { readonly files: object } {
  return JSON.parse(readFileSync(join(directory, 'witnesses.json'), 'utf8')) as { files: object };
}

test('images of retired epochs are used again', async () => {
  const wanted = { full: [24 * 4096, 16 * 4096], deltas: [] };
  assert.is(readdirSync(join(shadows, 'spare')).length, expected.recycled);
  assert.ok((await pruneSpares(shadows, wanted)) > 0);
  assert.is(readdirSync(join(shadows, 'spare')).length, 2);
});

test('epochs are retired, and rounds that no other epoch needs are collected', async () => {
  await catalogue.retire(2);
  assert.equal(await collectLeftovers(shadows, catalogue), []);
  await requireWhole(await catalogue.read(3));
  await catalogue.retire(3);
  assert.is(await catalogue.nextEpoch(), 4);
  const removed = await collectLeftovers(shadows, catalogue);
  assert.equal(removed.sort(), ['r000002-0123abcd', 'r000003-0123abcd']);
  await store.retire([2], quiet);
  await store.verify((await store.list()).epochs[0] as EpochManifest, quiet);
});

test('journals of rounds are read: a precopy round, and a background one with frames held', () => {
  const entry = { round: ROUND_4, stopping: true, held: [] as string[], saved: expected.saved };
  assert.equal(new Journal(join(root, 'members', 'a')).read(), entry);
  const { vm, reader } = expected.processes;
  const held = { ...entry, held: ['net0'], snapshot: { vm, reader } };
  const journal = new Journal(join(root, 'members', 'b'));
  assert.equal(journal.read(), held);
  journal.note(false);
  assert.equal(journal.read(), { ...held, stopping: false });
});

test('reports of rounds are read', async () => {
  const archive = new RoundArchive(join(root, 'rounds'));
  const [report] = await archive.last(10);
  assert.is(report?.epoch, 3);
  assert.is(report?.outcome, 'committed');
  assert.is(report?.clusterDowntimeMs, 50);
  assert.equal(
    report?.members.map(({ member, capture, downtimeMs }) => [member, capture, downtimeMs]),
    [
      ['a', 'background', 50],
      ['b', 'background', 50],
    ],
  );
});

test.run();
