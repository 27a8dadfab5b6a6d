import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  Catalogue,
  collectLeftovers,
  type EpochManifest,
  isUntouched,
  makeEpochManifest,
  openShadow,
  SealedRam,
  type SealedShadow,
  type ShadowError,
  StagingShadow,
  verifyShadow,
} from '../../shadow/index.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

const PAGE = 4096;
const PAGES = 700; // more than two chunks of checksums
const LAYOUT = [{ idstr: 'pc.ram', length: PAGES * PAGE }];
const STREAMED = [{ idstr: 'pc.ram', usedLength: PAGES * PAGE }];
const BASE_ROUND = 'r000001-00000000';
const DELTA_ROUND = 'r000002-00000000';

const test = suite('delta');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-delta-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

interface Limits {
  readonly reservedBytes?: number;
  readonly moreBytes?: number;
}

function stage(
  round: string,
  base?: SealedShadow,
  { reservedBytes = 4 * PAGE, moreBytes = PAGES * PAGE }: Limits = {},
  layout = LAYOUT,
): Promise<StagingShadow> {
  const location = { directory: join(root, round, 'a'), member: 'a', round };
  const delta = base && { base, reservedBytes, moreBytes, headroomBytes: 0 };
  return StagingShadow.reserve(location, layout, PAGE, delta);
}

/** Streams `memory` as QEMU does: every page once, zero pages as such. */
async function take(shadow: StagingShadow, memory: Buffer): Promise<SealedShadow> {
  const [ram] = shadow.match(STREAMED);
  const zero = Buffer.alloc(PAGE);
  for (let at = 0; at < memory.length; at += PAGE) {
    if (memory.compare(zero, 0, PAGE, at, at + PAGE) === 0) ram?.zeroPage(at);
    else ram?.writePage(at, memory, at);
  }
  const { sha256 } = await shadow.seal(SEAL_INPUT);
  return openShadow(shadow.directory, sha256);
}

async function memoryOf(shadow: SealedShadow): Promise<Buffer> {
  const ram = await SealedRam.open(shadow);
  const memory = Buffer.alloc(PAGES * PAGE, 0xee);
  for (let at = 0; at < memory.length; at += PAGE) {
    if (!ram.read(0, at, memory, at)) memory.fill(0, at, at + PAGE);
  }
  ram.close();
  return memory;
}

function memoryOfPages(): Buffer {
  const memory = randomBytes(PAGES * PAGE);
  memory.fill(0, 10 * PAGE, 20 * PAGE);
  return memory;
}

async function rejection(promise: Promise<unknown>): Promise<ShadowError> {
  return promise.then(
    () => assert.unreachable() as never,
    (error: ShadowError) => error,
  );
}

test('pages that equal the base are not stored again, and every page reads as it was', async () => {
  const memory = memoryOfPages();
  const base = await take(await stage(BASE_ROUND), memory);
  memory.fill(7, 3 * PAGE, 5 * PAGE); // changed
  memory.fill(9, 12 * PAGE, 13 * PAGE); // was zero
  memory.fill(0, 100 * PAGE, 150 * PAGE); // is zero now
  const delta = await take(await stage(DELTA_ROUND, base), memory);
  const [block] = delta.manifest.blocks;
  assert.is(block?.kind, 'delta');
  assert.is(block?.storedBytes, 3 * PAGE);
  const image = join(delta.directory, block?.file ?? '');
  assert.is(statSync(image).blocks * 512, 3 * PAGE, 'what was reserved beyond it is given back');
  assert.ok((await memoryOf(delta)).equals(memory));
  await verifyShadow(delta, 'all');
});

test('a delta of unchanged memory stores nothing', async () => {
  const memory = memoryOfPages();
  const base = await take(await stage(BASE_ROUND), memory);
  const delta = await take(await stage(DELTA_ROUND, base), memory);
  assert.is(delta.manifest.blocks[0]?.storedBytes, 0);
  assert.ok((await memoryOf(delta)).equals(memory));
  await verifyShadow(delta, 'all');
});

test('comparing does not fill the holes of the base', async () => {
  const memory = memoryOfPages();
  const base = await take(await stage(BASE_ROUND), memory);
  const image = join(base.directory, base.manifest.blocks[0]?.file ?? '');
  const before = statSync(image).blocks;
  await take(await stage(DELTA_ROUND, base), randomBytes(PAGES * PAGE));
  assert.is(statSync(image).blocks, before);
});

test('pages rewritten, zeroed and changed back end as the last write of each', async () => {
  const old = memoryOfPages();
  const base = await take(await stage(BASE_ROUND), old);
  let seed = 11;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    return (seed >>> 16) % below;
  };
  const shadow = await stage(DELTA_ROUND, base);
  const [ram] = shadow.match(STREAMED);
  const expected = Buffer.alloc(PAGES * PAGE);
  const source = randomBytes(64 * PAGE);
  const into = Buffer.alloc(PAGE);
  let offset = 0;
  for (let step = 0; step < 20_000; step++) {
    offset = random(3) === 0 ? random(PAGES) * PAGE : (offset + PAGE) % (PAGES * PAGE);
    const what = random(5);
    if (what === 0) {
      ram?.zeroPage(offset);
      expected.fill(0, offset, offset + PAGE);
    } else if (what < 3 && old.compare(Buffer.alloc(PAGE), 0, PAGE, offset, offset + PAGE) !== 0) {
      ram?.writePage(offset, old, offset);
      old.copy(expected, offset, offset, offset + PAGE);
    } else {
      const at = random(64) * PAGE;
      ram?.writePage(offset, source, at);
      source.copy(expected, offset, at, at + PAGE);
    }
    if (random(10) === 0) ram?.flush();
    if (random(50) !== 0) continue;
    ram?.readPages(offset, into);
    assert.ok(into.equals(expected.subarray(offset, offset + PAGE)), `page at ${offset}`);
  }
  for (const pages of [PAGES, 7, 1]) {
    const span = Buffer.alloc(pages * PAGE, 'stale');
    for (let from = 0; from < expected.length; from += span.length) {
      ram?.readPages(from, span);
      assert.ok(span.equals(expected.subarray(from, from + span.length)), `${pages} from ${from}`);
    }
    assert.throws(() => ram?.readPages(expected.length - span.length + PAGE, span), /no page at/);
  }
  await shadow.seal(SEAL_INPUT);
  const delta = await openShadow(shadow.directory);
  assert.ok((await memoryOf(delta)).equals(expected));
  await verifyShadow(delta, 'all');
});

test('a delta that outgrows its allowance fails; its base stays whole', async () => {
  const memory = memoryOfPages();
  const base = await take(await stage(BASE_ROUND), memory);
  const shadow = await stage(DELTA_ROUND, base, { reservedBytes: PAGE, moreBytes: 5 * PAGE });
  const error = await rejection(take(shadow, randomBytes(PAGES * PAGE)));
  assert.is(error.code, 'E_STORE_NO_ROOM');
  assert.is(error.missingBytes, PAGE);
  await shadow.discard();
  assert.not(existsSync(shadow.directory));
  assert.ok((await memoryOf(base)).equals(memory));
});

test('a block that the base has not, or has with another length, is stored in full', async () => {
  const base = await take(await stage(BASE_ROUND), memoryOfPages());
  const layout = [{ idstr: 'pc.ram', length: 2 * PAGE }];
  const shadow = await stage(DELTA_ROUND, base, {}, layout);
  const [ram] = shadow.match([{ idstr: 'pc.ram', usedLength: 2 * PAGE }]);
  ram?.writePage(PAGE, randomBytes(PAGE), 0);
  const { manifest } = await shadow.seal(SEAL_INPUT);
  assert.is(manifest.blocks[0]?.kind, 'full');
  assert.is(manifest.base, undefined);
});

test('a delta of a delta is refused', async () => {
  const memory = memoryOfPages();
  const base = await take(await stage(BASE_ROUND), memory);
  memory.fill(1, 0, PAGE);
  const delta = await take(await stage(DELTA_ROUND, base), memory);
  const error = await rejection(stage('r000003-00000000', delta));
  assert.is(error.code, 'E_SHADOW_LAYOUT');
  assert.not(existsSync(join(root, 'r000003-00000000', 'a')));
});

const DAMAGE: readonly (readonly [name: string, harm: (base: string, delta: string) => void])[] = [
  ['a flipped bit in the base', (base) => flip(join(base, 'ram-0.img'))],
  ['a flipped bit in the delta', (_, delta) => flip(join(delta, 'ram-0.delta'))],
  ['a flipped bit in the base’s index', (base) => flip(join(base, 'ram-0.idx'))],
  ['a flipped bit in the delta’s index', (_, delta) => flip(join(delta, 'ram-0.idx'))],
  ['a base that is gone', (base) => rmSync(base, { recursive: true })],
  ['another base', (base) => swapManifest(base)],
];

for (const [name, harm] of DAMAGE) {
  for (const mode of ['changed', 'all'] as const) {
    test(`${name} is found (${mode})`, async () => {
      const memory = memoryOfPages();
      const base = await take(await stage(BASE_ROUND), memory);
      memory.fill(1, 0, 2 * PAGE);
      const delta = await take(await stage(DELTA_ROUND, base), memory);
      assert.ok(await isUntouched(delta));
      harm(base.directory, delta.directory);
      const again = openShadow(delta.directory, delta.sha256);
      const error = await rejection(again.then((shadow) => verifyShadow(shadow, mode)));
      assert.is(error.code, 'E_EPOCH_CORRUPT');
    });
  }
}

test('a base is kept as long as a shadow of an epoch is a delta of it', async () => {
  const memory = memoryOfPages();
  const base = await take(await stage(BASE_ROUND), memory);
  memory.fill(1, 0, PAGE);
  const delta = await take(await stage(DELTA_ROUND, base), memory);
  const catalogue = new Catalogue(join(root, 'epochs'), 'demo');
  await catalogue.prepare();
  await catalogue.publish(epoch(1, BASE_ROUND, base));
  await catalogue.publish(epoch(2, DELTA_ROUND, delta));
  await catalogue.retire(1);
  assert.equal(await collectLeftovers(root, catalogue), []);
  assert.ok((await memoryOf(await openShadow(delta.directory))).equals(memory));
  await catalogue.retire(2);
  assert.equal((await collectLeftovers(root, catalogue)).sort(), [BASE_ROUND, DELTA_ROUND]);
});

function epoch(number: number, round: string, { sha256: shadow }: SealedShadow): EpochManifest {
  return makeEpochManifest({
    cluster: 'demo',
    epoch: number,
    round,
    createdAt: '2030-01-01T00:00:00.000Z',
    members: [{ name: 'a', shadow }],
  });
}

function flip(path: string): void {
  const bytes = readFileSync(path);
  const at = bytes.length >> 1;
  bytes[at] = (bytes[at] ?? 0) ^ 4;
  writeFileSync(path, bytes);
}

function swapManifest(directory: string): void {
  const path = join(directory, 'shadow.json');
  writeFileSync(path, readFileSync(path, 'utf8').replace('"member":"a"', '"member":"b"'));
}

test.run();
