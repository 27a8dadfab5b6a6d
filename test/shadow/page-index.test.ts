import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ShadowError } from '../../shadow/errors.ts';
import {
  AS_BASE,
  chunkChecksum,
  decodeIndex,
  encodeIndex,
  entriesOf,
  heldSlots,
  type IndexOptions,
  type PageIndex,
  type SparseIndex,
  shorterIndex,
  ZEROS,
} from '../../shadow/page-index.ts';

const PAGE = 4096;
const PAGES = 600;
const TERMS: IndexOptions = { pageSize: PAGE, pages: PAGES, kind: 'delta', path: 'ram-0.idx' };
const FULL: IndexOptions = { ...TERMS, kind: 'full' };

const test = suite('page index');

/** Makes the index of a delta that has three of every four pages, packed. */
function delta(): PageIndex {
  const entries = new Int32Array(PAGES).fill(AS_BASE);
  let slots = 0;
  for (let page = 0; page < PAGES; page++) {
    if (page % 4 === 3) entries[page] = page % 8 === 3 ? ZEROS : AS_BASE;
    else entries[page] = slots++;
  }
  return { pageSize: PAGE, entries, slots, checksums: new Uint32Array([1, 2]) };
}

function codeOf(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof ShadowError) return error.code;
    throw error;
  }
}

test('an index is decoded as it was encoded', () => {
  const index = delta();
  const decoded = decodeIndex(encodeIndex(index), TERMS);
  assert.equal(decoded, index);
  assert.is(heldSlots(decoded).length, index.slots);
  assert.ok(heldSlots(decoded).every((held) => held === 1));
});

test('a newer or older version is refused as such, and the one before is read', () => {
  const index = delta();
  const data = encodeIndex(index);
  for (const version of [0, 3]) {
    data.writeUInt32LE(version, 8);
    assert.is(
      codeOf(() => decodeIndex(data, TERMS)),
      'E_MANIFEST_VERSION',
      `version ${version}`,
    );
  }
  const first = Buffer.concat([data.subarray(0, 24), data.subarray(28)]); // it had no pairs
  first.writeUInt32LE(1, 8);
  assert.equal(decodeIndex(first, TERMS), index);
});

/** Makes the index of a link that has three pages, one of them zeros. */
function sparse(): SparseIndex {
  const changed = {
    pages: new Uint32Array([3, 70, 599]),
    entries: new Int32Array([1, ZEROS, 0]),
  };
  return { pageSize: PAGE, pages: PAGES, changed, slots: 2, checksums: new Uint32Array([7]) };
}

test('an index that lists pages is as long as they are, and means the same', () => {
  const index = sparse();
  const data = encodeIndex(index);
  assert.is(data.length, 28 + 3 * 8 + 4);
  const decoded = decodeIndex(data, TERMS);
  assert.equal(decoded, index);
  assert.equal([...heldSlots(decoded)], [1, 1]);
  const entries = entriesOf(decoded);
  assert.equal([entries[3], entries[70], entries[599]], [1, ZEROS, 0]);
  assert.is(
    entries.findIndex((entry, page) => entry !== AS_BASE && ![3, 70, 599].includes(page)),
    -1,
  );
});

test('an index is written in the form that is shorter', () => {
  assert.equal(shorterIndex(sparse()), sparse());
  const pages = Uint32Array.from({ length: 400 }, (_, page) => page);
  const changed = { pages, entries: new Int32Array(400).map((_, slot) => slot) };
  const index = { ...sparse(), changed, slots: 400, checksums: new Uint32Array([7, 8]) };
  const dense = shorterIndex(index);
  assert.not('changed' in dense);
  assert.equal(entriesOf(dense), entriesOf(index));
});

const WRONG_LISTS: readonly (readonly [what: string, harm: (data: Buffer) => Buffer])[] = [
  ['a page twice', (data) => withWord(data, 32, 3)],
  ['pages that do not ascend', (data) => withWord(data, 28, 71)],
  ['a page outside the block', (data) => withWord(data, 36, PAGES)],
  ['more pairs than pages', (data) => withWord(data, 24, PAGES + 1)],
  ['fewer pairs than it has', (data) => withWord(data, 24, 2)],
  ['a page that is as in the base', (data) => withWord(data, 40, 0xffffffff)],
  ['a slot used twice', (data) => withWord(data, 40, 0)],
  ['an entry beyond the slots', (data) => withWord(data, 40, 2)],
];
for (const [what, harm] of WRONG_LISTS) {
  test(`of an index that lists pages, ${what} is damage`, () => {
    const data = harm(encodeIndex(sparse()));
    assert.is(
      codeOf(() => decodeIndex(data, TERMS)),
      'E_EPOCH_CORRUPT',
    );
  });
}

test('a full image has no list: it refers to no base', () => {
  assert.is(
    codeOf(() => decodeIndex(encodeIndex(sparse()), FULL)),
    'E_EPOCH_CORRUPT',
  );
});

const WRONG: readonly (readonly [what: string, harm: (data: Buffer) => Buffer])[] = [
  ['no index at all', () => Buffer.from('something else, long enough to be one')],
  ['nothing', () => Buffer.alloc(0)],
  ['another page size', (data) => withWord(data, 12, 2 * PAGE)],
  ['another number of pages', (data) => withWord(data, 16, PAGES + 1)],
  ['more slots than pages', (data) => withWord(data, 20, PAGES + 1)],
  ['fewer slots than entries use', (data) => withWord(data, 20, 300)],
  ['an entry beyond the slots', (data) => withWord(data, 28, 450)],
  ['a slot used twice', (data) => withWord(data, 28, 1)],
  ['an entry that means nothing', (data) => withWord(data, 28, 0xfffffffd)],
  ['cut off', (data) => data.subarray(0, -1)],
  ['something after its end', (data) => Buffer.concat([data, Buffer.alloc(4)])],
];

for (const [what, harm] of WRONG) {
  test(`refused: ${what}`, () => {
    assert.is(
      codeOf(() => decodeIndex(harm(encodeIndex(delta())), TERMS)),
      'E_EPOCH_CORRUPT',
    );
  });
}

test('a full image has its pages in their places, and no base', () => {
  const entries = new Int32Array(PAGES).map((_, page) => (page % 3 === 0 ? ZEROS : page));
  const checksums = new Uint32Array(3);
  const full = { pageSize: PAGE, entries, slots: PAGES, checksums };
  assert.equal(decodeIndex(encodeIndex(full), FULL), full);
  for (const entry of [AS_BASE, 2]) {
    const other = { ...full, entries: entries.with(1, entry) };
    assert.is(
      codeOf(() => decodeIndex(encodeIndex(other), FULL)),
      'E_EPOCH_CORRUPT',
    );
  }
});

test('random bytes are refused, or are a sound index', () => {
  let seed = 5;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    return (seed >>> 16) % below;
  };
  for (let round = 0; round < 2000; round++) {
    const data = encodeIndex(delta());
    for (let harm = random(3); harm >= 0; harm--) data[random(data.length)] = random(256);
    const code = codeOf(() => {
      const index = decodeIndex(data, TERMS);
      const { slots } = index;
      for (const entry of entriesOf(index)) assert.ok(entry >= ZEROS && entry < slots);
    });
    assert.ok(code === undefined || code.startsWith('E_'), code);
  }
});

test('a checksum covers the pages that are held, in order, and no others', () => {
  const data = Buffer.alloc(8 * PAGE);
  for (let page = 0; page < 8; page++) data.fill(page + 1, page * PAGE, (page + 1) * PAGE);
  const held = new Uint8Array([1, 0, 1, 1, 0, 0, 1, 1]);
  const sum = chunkChecksum(data, held, 0, PAGE);
  data.fill(99, PAGE, 2 * PAGE); // not held
  assert.is(chunkChecksum(data, held, 0, PAGE), sum);
  data[2 * PAGE] = 0;
  assert.is.not(chunkChecksum(data, held, 0, PAGE), sum);
});

function withWord(data: Buffer, at: number, value: number): Buffer {
  data.writeUInt32LE(value >>> 0, at);
  return data;
}

test.run();
