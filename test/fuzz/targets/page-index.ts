/**
 * Fuzz target: page indices. Reading throws nothing but a ShadowError. An index that is accepted
 * is, byte for byte, what is written of it again, except for its version. No entry is outside the
 * image, and no slot is used twice.
 */
import { strict as assert } from 'node:assert';
import { ShadowError } from '../../../shadow/errors.ts';
import { PAGE_INDEX_FORMAT } from '../../../shadow/format-version.ts';
import {
  AS_BASE,
  decodeIndex,
  encodeIndex,
  entriesOf,
  heldSlots,
  ZEROS,
} from '../../../shadow/page-index.ts';
import { codeOf, type Target } from '../target.ts';

/** Offset of the version in an index. */
const VERSION_AT = 8;

export const target: Target = {
  covers: ['shadow/page-index.ts', 'shadow/format-version.ts'],
  inputBytesMax: 10_000,
  words: [Buffer.from('ffffffff', 'hex'), Buffer.from('feffffff', 'hex'), 'UMBRAIDX'],
  check(input) {
    // The manifest agrees with what the index says of itself, as far as possible.
    const pages = input.length >= 24 ? input.readUInt32LE(16) : 1;
    const outcomes = (['full', 'delta'] as const).map((kind) => read(input, pages, kind));
    return outcomes.join(' ');
  },
};

function read(input: Buffer, pages: number, kind: 'full' | 'delta'): string {
  try {
    const index = decodeIndex(input, { pageSize: 4096, pages, kind, path: '/store/ram-0.idx' });
    if (input.readUInt32LE(VERSION_AT) === PAGE_INDEX_FORMAT.version) {
      assert.ok(encodeIndex(index).equals(input));
    }
    const { slots } = index;
    const entries = entriesOf(index);
    const used = [...entries].filter((entry) => entry >= 0);
    assert.ok(used.every((entry) => entry < slots) && new Set(used).size === used.length);
    assert.ok([...entries].every((entry) => entry >= ZEROS));
    assert.ok(kind === 'delta' || !entries.includes(AS_BASE));
    assert.equal(
      heldSlots(index).reduce((sum, held) => sum + held, 0),
      used.length,
    );
    return 'accepted';
  } catch (error) {
    return codeOf(error, ShadowError);
  }
}
