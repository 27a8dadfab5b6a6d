/**
 * Page index of an image: which pages of a RAM block it holds, in which slots, and their checksums.
 *
 *     0        "UMBRAIDX"
 *     8        version, page size, pages of the block, slots of the image       u32 each
 *     24       entries, one a page                                              i32 each
 *     …        CRC-32 of every 256 slots: of the pages held there, in order     u32 each
 *
 *     entry    ≥ 0   the page is in the image, at slot × page size
 *              −1    it is as in the base
 *              −2    it is zeros
 *
 * A full image holds page n in slot n, so that QEMU can map it, and refers to no base. A delta has
 * its pages packed, in the order in which they came. Little endian, as are the machines it stays
 * on. Versions 1 and 2 are alike. A manifest names an index by its SHA-256, and thereby the whole
 * image.
 */
import { crc32 } from 'node:zlib';
import { ShadowError } from './errors.ts';
import { PAGE_INDEX_FORMAT, requireVersion } from './format-version.ts';

export const AS_BASE = -1;
export const ZEROS = -2;

/** Slots that share a checksum: 1 MiB of pages of 4 KiB. */
export const CHUNK_SLOTS = 256;

const MAGIC = Buffer.from('UMBRAIDX');
const HEADER_BYTES = 24;
const WORD_BYTES = 4;

export interface PageIndex {
  readonly pageSize: number;
  readonly entries: Int32Array;
  /** Length of the image, in pages. */
  readonly slots: number;
  /** One for every CHUNK_SLOTS slots. */
  readonly checksums: Uint32Array;
}

/** Encodes an index in the newest version. */
export function encodeIndex({ pageSize, entries, slots, checksums }: PageIndex): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  for (const [index, value] of [
    PAGE_INDEX_FORMAT.version,
    pageSize,
    entries.length,
    slots,
  ].entries()) {
    header.writeUInt32LE(value, MAGIC.length + index * WORD_BYTES);
  }
  return Buffer.concat([header, bytesOf(entries), bytesOf(checksums)]);
}

/** Facts of the shadow's manifest that its index must agree with. */
export interface IndexOptions {
  readonly pageSize: number;
  readonly pages: number;
  readonly kind: 'full' | 'delta';
  readonly path: string;
}

/**
 * Decodes and checks an index.
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_VERSION
 */
export function decodeIndex(
  data: Buffer,
  { pageSize, pages, kind, path }: IndexOptions,
): PageIndex {
  const corrupt = (why: string) => new ShadowError('E_EPOCH_CORRUPT', `${path}: ${why}`, { path });
  const isIndex = data.length >= HEADER_BYTES && data.subarray(0, MAGIC.length).equals(MAGIC);
  if (!isIndex) throw corrupt('not a page index');
  const word = (index: number) => data.readUInt32LE(MAGIC.length + index * WORD_BYTES);
  requireVersion(PAGE_INDEX_FORMAT, word(0), path);
  const slots = word(3);
  if (word(1) !== pageSize || word(2) !== pages) throw corrupt('it is of another RAM block');
  if (slots > pages) throw corrupt(`${slots} slots for ${pages} pages`);
  const chunks = Math.ceil(slots / CHUNK_SLOTS);
  if (data.length !== HEADER_BYTES + (pages + chunks) * WORD_BYTES) throw corrupt('wrong length');
  const copy = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
  const entries = new Int32Array(copy, HEADER_BYTES, pages);
  const checksums = new Uint32Array(copy, HEADER_BYTES + pages * WORD_BYTES, chunks);
  requireSound(entries, slots, kind, corrupt);
  return { pageSize, entries, slots, checksums };
}

function requireSound(
  entries: Int32Array,
  slots: number,
  kind: 'full' | 'delta',
  corrupt: (why: string) => ShadowError,
): void {
  const taken = new Uint8Array(slots);
  // Millions of entries, and a restore may wait for this: no iterator.
  for (let page = 0; page < entries.length; page++) {
    const entry = entries[page] ?? ZEROS;
    if (entry === ZEROS || (entry === AS_BASE && kind === 'delta')) continue;
    const isSound = entry >= 0 && entry < slots && taken[entry] === 0;
    if (!isSound || (kind === 'full' && entry !== page)) throw corrupt(`entry ${entry} of ${page}`);
    taken[entry] = 1;
  }
}

/** Returns 1 for each slot that holds a page, and 0 for the others. */
export function heldSlots({ entries, slots }: PageIndex): Uint8Array {
  const held = new Uint8Array(slots);
  for (let page = 0; page < entries.length; page++) {
    const entry = entries[page] ?? ZEROS;
    if (entry >= 0) held[entry] = 1;
  }
  return held;
}

/**
 * Computes the checksum of one chunk of an image.
 * @param data bytes of the chunk, from its first slot on
 * @param held 1 for each slot of the image that holds a page
 * @param from first slot of the chunk
 */
export function chunkChecksum(
  data: Uint8Array,
  held: Uint8Array,
  from: number,
  pageSize: number,
): number {
  const count = Math.min(CHUNK_SLOTS, held.length - from);
  let sum = 0;
  let run = 0;
  for (let slot = 0; slot <= count; slot++) {
    if (slot < count && held[from + slot] === 1) {
      run++;
      continue;
    }
    if (run > 0) sum = crc32(data.subarray((slot - run) * pageSize, slot * pageSize), sum);
    run = 0;
  }
  return sum;
}

function bytesOf(array: Int32Array | Uint32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
