import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  markMapped,
  occupiedBytes,
  openShadow,
  pruneSpares,
  recycleShadows,
  StagingShadow,
  spareDirectory,
  verifyShadow,
} from '../../shadow/index.ts';
import { scratchFolder } from '../support/scratch.ts';
import { SEAL_INPUT } from '../support/seal-input.ts';

const PAGE = 4096;
const PAGES = 16;
const LAYOUT = [{ idstr: 'pc.ram', length: PAGES * PAGE }];
const STREAMED = [{ idstr: 'pc.ram', usedLength: PAGES * PAGE }];
const ROUND = 'r000001-00000000';

const test = suite('spares');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-spares-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

function reserve(round: string, member = 'a'): Promise<StagingShadow> {
  const directory = join(root, round, member);
  const location = { directory, member, round, spares: spareDirectory(root) };
  return StagingShadow.reserve(location, LAYOUT, PAGE);
}

/** Seals a shadow whose every page is full of one byte. */
async function sealed(round: string, byte: number, member = 'a') {
  const shadow = await reserve(round, member);
  const [ram] = shadow.match(STREAMED);
  const page = Buffer.alloc(PAGE, byte);
  for (let index = 0; index < PAGES; index++) ram?.writePage(index * PAGE, page, 0);
  return shadow.seal(SEAL_INPUT);
}

function spares(): string[] {
  return existsSync(spareDirectory(root)) ? readdirSync(spareDirectory(root)) : [];
}

test('the next round takes over a retired image, and its content reaches no shadow', async () => {
  await sealed(ROUND, 0xaa);
  await recycleShadows(root, ROUND);
  assert.not(existsSync(join(root, ROUND)));
  assert.is(spares().length, 1);
  const shadow = await reserve('r2');
  assert.is(spares().length, 0);
  const [ram] = shadow.match(STREAMED);
  const into = Buffer.alloc(PAGE, 1);
  ram?.zeroPage(PAGE);
  ram?.readPages(PAGE, into); // XBZRLE may build on a page of zeros
  assert.ok(into.equals(Buffer.alloc(PAGE)));
  ram?.writePage(0, Buffer.alloc(PAGE, 0xbb), 0);
  const { sha256, storedBytes } = await shadow.seal(SEAL_INPUT);
  assert.is(storedBytes, PAGE);
  const image = readFileSync(join(root, 'r2', 'a', 'ram-0.img'));
  const expected = Buffer.concat([Buffer.alloc(PAGE, 0xbb), Buffer.alloc((PAGES - 1) * PAGE)]);
  assert.ok(image.equals(expected), 'something of the epoch before is left');
  const directory = join(root, 'r2', 'a');
  await verifyShadow(await openShadow(directory, sha256), 'all');
});

test('an image a VM may have mapped is never used again', async () => {
  await sealed(ROUND, 0xaa, 'a');
  await sealed(ROUND, 0xaa, 'b');
  await markMapped(join(root, ROUND, 'a'));
  await recycleShadows(root, ROUND);
  assert.is(spares().length, 1);
  assert.not(existsSync(join(root, ROUND)));
});

test('one spare goes to one member', async () => {
  await sealed(ROUND, 0xaa);
  await recycleShadows(root, ROUND);
  const both = await Promise.all([reserve('r2', 'a'), reserve('r2', 'b')]);
  for (const shadow of both) await shadow.discard();
  assert.is(spares().length, 0);
});

test('spares that fit no image are removed, and the rest is counted', async () => {
  await sealed(ROUND, 0xaa, 'a');
  await sealed(ROUND, 0xaa, 'b');
  await recycleShadows(root, ROUND);
  assert.is(await pruneSpares(root, { full: [PAGES * PAGE, 5 * PAGE], deltas: [] }), PAGES * PAGE);
  assert.is(spares().length, 1);
  assert.is(await occupiedBytes(root), PAGES * PAGE);
  assert.is(await pruneSpares(root, { full: [], deltas: [] }), 0);
  assert.is(await occupiedBytes(root), 0);
});

/** Makes spares of deltas, of these lengths in pages. */
function spareDeltas(...lengths: number[]): void {
  mkdirSync(spareDirectory(root), { recursive: true });
  for (const [at, pages] of lengths.entries()) {
    const name = `delta-${pages * PAGE}-${at}.img`;
    writeFileSync(join(spareDirectory(root), name), Buffer.alloc(pages * PAGE, 1));
  }
}

/** Lengths of those there are, in pages. */
function deltaPages(): number[] {
  const lengths = spares().map((name) => Number(/^delta-(\d+)-/.exec(name)?.[1]) / PAGE);
  return lengths.sort((a, b) => a - b);
}

test('a delta takes over one spare, so no more are kept for it, nor counted', async () => {
  spareDeltas(5, 5, 5, 5, 5, 5, 5, 5, 5, 5);
  assert.is(await pruneSpares(root, { full: [], deltas: [50 * PAGE] }), 5 * PAGE);
  assert.equal(deltaPages(), [5]);
  assert.is(await occupiedBytes(root), 5 * PAGE);
});

test('for each delta the longest spare is kept that does not exceed it', async () => {
  spareDeltas(2, 3, 4, 8, 9, 20);
  const deltas = [5 * PAGE, PAGE, 10 * PAGE];
  assert.is(await pruneSpares(root, { full: [], deltas }), (4 + 9) * PAGE);
  assert.equal(deltaPages(), [4, 9]);
});

test('a small block does not take over the spare that is kept for a large one', async () => {
  await sealed(ROUND, 0xaa);
  const base = await openShadow(join(root, ROUND, 'a'));
  spareDeltas(PAGES + 1);
  const location = { directory: join(root, 'r2', 'a'), member: 'a', round: 'r2' };
  const options = { base, reservedBytes: PAGE, moreBytes: PAGE, headroomBytes: 0 };
  const spare = spareDirectory(root);
  const staged = await StagingShadow.reserve({ ...location, spares: spare }, LAYOUT, PAGE, options);
  assert.equal(deltaPages(), [PAGES + 1]);
  await staged.discard();
});

test('a store without spares works', async () => {
  assert.is(await pruneSpares(root, { full: [PAGE], deltas: [PAGE] }), 0);
  assert.is(await occupiedBytes(join(root, 'nowhere')), 0);
});

test.run();
