import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ShadowError } from '../../shadow/errors.ts';
import {
  AS_BASE,
  chunkChecksum,
  decodeIndex,
  encodeIndex,
  heldSlots,
  type IndexOptions,
  type PageIndex,
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
  data.writeUInt32LE(1, 8);
  assert.equal(decodeIndex(data, TERMS), index);
});

const WRONG: readonly (readonly [what: string, harm: (data: Buffer) => Buffer])[] = [
  ['no index at all', () => Buffer.from('something else, long enough to be one')],
  ['nothing', () => Buffer.alloc(0)],
  ['another page size', (data) => withWord(data, 12, 2 * PAGE)],
  ['another number of pages', (data) => withWord(data, 16, PAGES + 1)],
  ['more slots than pages', (data) => withWord(data, 20, PAGES + 1)],
  ['fewer slots than entries use', (data) => withWord(data, 20, 300)],
  ['an entry beyond the slots', (data) => withWord(data, 24, 450)],
  ['a slot used twice', (data) => withWord(data, 24, 1)],
  ['an entry that means nothing', (data) => withWord(data, 24, 0xfffffffd)],
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
      const { entries, slots } = decodeIndex(data, TERMS);
      for (const entry of entries) assert.ok(entry >= ZEROS && entry < slots);
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
