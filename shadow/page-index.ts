/**
 * Page index of an image: which pages of a RAM block it holds, in which slots, and their checksums.
 *
 *     0        "UMBRAIDX"
 *     8        version, page size, pages of the block, slots of the image       u32 each
 *     24       pairs; 0xffffffff: the index is dense. Absent in version 1       u32
 *     …        dense     entries, one a page                                    i32 each
 *              sparse    pages in ascending order, then the entry of each       u32, i32 each
 *     …        CRC-32 of every 256 slots: of the pages held there, in order     u32 each
 *
 *     entry    ≥ 0   the page is in the image, at slot × page size
 *              −1    it is as in the base; not listed in a sparse index
 *              −2    it is zeros
 *
 * A full image holds page n in slot n, so that QEMU can map it, and refers to no base: its index is
 * dense. A delta has its pages packed, in the order in which they came; its index is of the form
 * that is shorter. Little endian, as are the machines it stays on. A manifest names an index by its
 * SHA-256, and thereby the whole image.
 */
import { crc32 } from 'node:zlib';
import { ShadowError } from './errors.ts';
import { PAGE_INDEX_FORMAT, requireVersion } from './format-version.ts';

export const AS_BASE = -1;
export const ZEROS = -2;

/** Slots that share a checksum: 1 MiB of pages of 4 KiB. */
export const CHUNK_SLOTS = 256;

const MAGIC = Buffer.from('UMBRAIDX');
const HEADER_BYTES = 28;
/** Header of version 1: its index is dense. */
const FIRST_HEADER_BYTES = 24;
const WORD_BYTES = 4;
const DENSE = 0xffff_ffff;

interface AnyIndex {
  readonly pageSize: number;
  /** Length of the image, in pages. */
  readonly slots: number;
  /** One for every CHUNK_SLOTS slots. */
  readonly checksums: Uint32Array;
}

/** Index with an entry for each page of the block. */
export interface DenseIndex extends AnyIndex {
  readonly entries: Int32Array;
}

/** Index of the pages that are not as in the base. */
export interface SparseIndex extends AnyIndex {
  /** Pages of the block. */
  readonly pages: number;
  /** Numbers of those pages, ascending, and the entry of each. */
  readonly changed: { readonly pages: Uint32Array; readonly entries: Int32Array };
}

export type PageIndex = DenseIndex | SparseIndex;

/** Encodes an index in the newest version. */
export function encodeIndex(index: PageIndex): Buffer {
  const sparse = 'changed' in index ? index : undefined;
  const body =
    'changed' in index
      ? [bytesOf(index.changed.pages), bytesOf(index.changed.entries)]
      : [bytesOf(index.entries)];
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  const { version } = PAGE_INDEX_FORMAT;
  const pairs = sparse?.changed.pages.length ?? DENSE;
  const words = [version, index.pageSize, pagesIn(index), index.slots, pairs];
  for (const [at, value] of words.entries()) {
    header.writeUInt32LE(value, MAGIC.length + at * WORD_BYTES);
  }
  return Buffer.concat([header, ...body, bytesOf(index.checksums)]);
}

/** Returns the index of a delta, in the form that is shorter. */
export function shorterIndex(index: SparseIndex): PageIndex {
  return 2 * index.changed.pages.length < index.pages ? index : toDense(index);
}

/** Returns the number of pages of the block. */
function pagesIn(index: PageIndex): number {
  return 'changed' in index ? index.pages : index.entries.length;
}

function toDense({ pageSize, slots, checksums, pages, changed }: SparseIndex): DenseIndex {
  const entries = new Int32Array(pages).fill(AS_BASE);
  for (let at = 0; at < changed.pages.length; at++) {
    entries[changed.pages[at] ?? 0] = changed.entries[at] ?? AS_BASE;
  }
  return { pageSize, slots, checksums, entries };
}

/** Returns an entry for each page. */
export function entriesOf(index: PageIndex): Int32Array {
  return 'changed' in index ? toDense(index).entries : index.entries;
}

/** Calls `visit` for each page that is not as in the base, in ascending order. */
export function eachChanged(index: PageIndex, visit: (page: number, entry: number) => void): void {
  if ('changed' in index) {
    const { pages, entries } = index.changed;
    for (let at = 0; at < pages.length; at++) visit(pages[at] ?? 0, entries[at] ?? ZEROS);
    return;
  }
  const { entries } = index;
  for (let page = 0; page < entries.length; page++) {
    const entry = entries[page] ?? AS_BASE;
    if (entry !== AS_BASE) visit(page, entry);
  }
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
  const isIndex = data.length >= FIRST_HEADER_BYTES && data.subarray(0, MAGIC.length).equals(MAGIC);
  if (!isIndex) throw corrupt('not a page index');
  const word = (index: number) => data.readUInt32LE(MAGIC.length + index * WORD_BYTES);
  const version = word(0);
  requireVersion(PAGE_INDEX_FORMAT, version, path);
  const slots = word(3);
  if (word(1) !== pageSize || word(2) !== pages) throw corrupt('it is of another RAM block');
  if (slots > pages) throw corrupt(`${slots} slots for ${pages} pages`);
  const isFirst = version === PAGE_INDEX_FORMAT.first;
  const headerBytes = isFirst ? FIRST_HEADER_BYTES : HEADER_BYTES;
  if (data.length < headerBytes) throw corrupt('wrong length');
  const pairs = isFirst ? DENSE : word(4);
  if (pairs !== DENSE && (kind === 'full' || pairs > pages)) throw corrupt(`${pairs} pairs`);
  const bodyWords = pairs === DENSE ? pages : 2 * pairs;
  const chunks = Math.ceil(slots / CHUNK_SLOTS);
  if (data.length !== headerBytes + (bodyWords + chunks) * WORD_BYTES) {
    throw corrupt('wrong length');
  }
  const copy = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
  const checksums = new Uint32Array(copy, headerBytes + bodyWords * WORD_BYTES, chunks);
  if (pairs === DENSE) {
    const entries = new Int32Array(copy, headerBytes, pages);
    requireSound(entries, slots, kind, corrupt);
    return { pageSize, entries, slots, checksums };
  }
  const changed = {
    pages: new Uint32Array(copy, headerBytes, pairs),
    entries: new Int32Array(copy, headerBytes + pairs * WORD_BYTES, pairs),
  };
  requireAscending(changed.pages, pages, corrupt);
  requireSound(changed.entries, slots, 'sparse', corrupt);
  return { pageSize, pages, changed, slots, checksums };
}

function requireAscending(
  listed: Uint32Array,
  pages: number,
  corrupt: (why: string) => ShadowError,
): void {
  let last = -1;
  for (let at = 0; at < listed.length; at++) {
    const page = listed[at] ?? 0;
    if (page <= last || page >= pages) throw corrupt(`page ${page} after ${last}`);
    last = page;
  }
}

function requireSound(
  entries: Int32Array,
  slots: number,
  kind: 'full' | 'delta' | 'sparse',
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
export function heldSlots(index: PageIndex): Uint8Array {
  const held = new Uint8Array(index.slots);
  eachChanged(index, (_page, entry) => {
    if (entry >= 0) held[entry] = 1;
  });
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
