/**
 * Container: one file of a sealed shadow, as it is stored on disk. The container does not know what
 * the file means. Little-endian, no padding:
 *
 *     header   "UMBRADUR" │ version u32 │ file bytes u64 │ key 32 B │ crc u32
 *     batch    "BTCH" │ index u32 │ extents u32 │ method u32 │ content bytes u32 │ stored bytes u32
 *              │ content crc u32 │ stored crc u32 │ crc u32
 *              extents × (offset u64 │ bytes u32), then the stored bytes
 *     batch …
 *     footer   "DONE" │ batches u32 │ content bytes u64 │ container bytes u64 │ chain u32 │ crc u32
 *
 *     key      sha-256 of the shadow's digest and the file's name: finds a container out of place
 *     method   0: as it is; 1: one lz4 block behind its content's length (u32), as by lz4-napi
 *     extents  where a batch's content belongs, ascending through the container; the rest are holes
 *     crc      CRC-32 of all before it in the same header; `stored crc` covers the extents, too;
 *              `chain` covers all batch headers: none can be missing, or of another container
 *
 * A container without a footer was cut off, and is none. Versions 1 and 2 are alike.
 *
 * PURE.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { CONTAINER_FORMAT } from '../format-version.ts';

/** Most content of one batch. A few batches of a file are in memory at a time. */
export const BATCH_BYTES = 2 ** 20;
/** Most extents of a batch: each has at least a page, except the last of a file. */
export const EXTENTS_MAX = 1024;
/**
 * Most stored bytes of a batch: with what lz4 adds at worst (by its own bound, n/255 + 16), and the
 * length before the block.
 */
export const STORED_MAX = BATCH_BYTES + Math.ceil(BATCH_BYTES / 255) + 20;

export const HEADER_BYTES = 56;
export const BATCH_HEADER_BYTES = 36;
export const EXTENT_BYTES = 12;
export const FOOTER_BYTES = 32;

const MAGIC = Buffer.from('UMBRADUR', 'latin1');
export const BATCH_MAGIC = Buffer.from('BTCH', 'latin1').readUInt32LE();
export const FOOTER_MAGIC = Buffer.from('DONE', 'latin1').readUInt32LE();

export const METHOD_RAW = 0;
export const METHOD_LZ4 = 1;

/** Run of content: `bytes` of it, at `offset` of the file. */
export interface Extent {
  readonly offset: number;
  readonly bytes: number;
}

export interface Header {
  readonly version: number;
  readonly fileBytes: number;
  readonly key: Buffer;
}

export interface BatchHeader {
  readonly index: number;
  readonly extents: number;
  readonly method: number;
  readonly contentBytes: number;
  readonly storedBytes: number;
  readonly contentCrc: number;
  readonly storedCrc: number;
}

export interface Footer {
  readonly batches: number;
  /** Bytes of the file that are not holes. */
  readonly contentBytes: number;
  readonly containerBytes: number;
  readonly chain: number;
}

/** Returns the key that ties a container to its shadow and its file. */
export function keyOf(shadowSha256: string, file: string): Buffer {
  return createHash('sha256').update(`${shadowSha256}/${file}`).digest();
}

export function encodeHeader(fileBytes: number, key: Buffer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(CONTAINER_FORMAT.version, 8);
  header.writeBigUInt64LE(BigInt(fileBytes), 12);
  key.copy(header, 20);
  return sealed(header);
}

/**
 * Decodes the header of any version: this much of the layout stays.
 * @returns undefined if it is damaged, or no header
 */
export function decodeHeader(header: Buffer): Header | undefined {
  if (!header.subarray(0, MAGIC.length).equals(MAGIC) || !isSealed(header)) return undefined;
  const fileBytes = readCount(header, 12);
  if (fileBytes === undefined) return undefined;
  return { version: header.readUInt32LE(8), fileBytes, key: header.subarray(20, 20 + 32) };
}

export function encodeBatchHeader(batch: BatchHeader): Buffer {
  const header = Buffer.alloc(BATCH_HEADER_BYTES);
  const { index, extents, method, contentBytes, storedBytes, contentCrc, storedCrc } = batch;
  const fields = [BATCH_MAGIC, index, extents, method];
  fields.push(contentBytes, storedBytes, contentCrc, storedCrc);
  for (const [at, value] of fields.entries()) header.writeUInt32LE(value, at * 4);
  return sealed(header);
}

/**
 * Decodes a batch header.
 * @returns undefined if it is damaged, or describes more than a batch may have
 */
export function decodeBatchHeader(header: Buffer): BatchHeader | undefined {
  if (!isSealed(header)) return undefined;
  const [magic, index = 0, extents = 0, method = 0, contentBytes = 0, storedBytes = 0] = Array.from(
    { length: 6 },
    (_, at) => header.readUInt32LE(at * 4),
  );
  const fits =
    magic === BATCH_MAGIC &&
    extents > 0 &&
    extents <= EXTENTS_MAX &&
    contentBytes <= BATCH_BYTES &&
    storedBytes <= STORED_MAX &&
    (method === METHOD_LZ4 || (method === METHOD_RAW && storedBytes === contentBytes));
  if (!fits) return undefined;
  const [contentCrc, storedCrc] = [header.readUInt32LE(24), header.readUInt32LE(28)];
  return { index, extents, method, contentBytes, storedBytes, contentCrc, storedCrc };
}

/**
 * Adds a batch header to the chain, without its own CRC: a CRC over data that ends with its CRC is
 * the same whatever the data.
 */
export function chainOf(batchHeader: Buffer, chain: number): number {
  return crc32(batchHeader.subarray(0, -4), chain);
}

export function encodeExtents(extents: readonly Extent[]): Buffer {
  const table = Buffer.alloc(extents.length * EXTENT_BYTES);
  for (const [index, { offset, bytes }] of extents.entries()) {
    table.writeBigUInt64LE(BigInt(offset), index * EXTENT_BYTES);
    table.writeUInt32LE(bytes, index * EXTENT_BYTES + 8);
  }
  return table;
}

/**
 * Decodes a table of extents.
 * @param from end of the batch before, in the file
 * @returns undefined unless they ascend, stay in the file and add up to the batch's content
 */
export function decodeExtents(
  table: Buffer,
  from: number,
  fileBytes: number,
  contentBytes: number,
): Extent[] | undefined {
  const extents: Extent[] = [];
  let end = from;
  let sum = 0;
  for (let at = 0; at < table.length; at += EXTENT_BYTES) {
    const offset = readCount(table, at);
    const bytes = table.readUInt32LE(at + 8);
    if (offset === undefined || offset < end || bytes === 0) return undefined;
    end = offset + bytes;
    sum += bytes;
    extents.push({ offset, bytes });
  }
  return end <= fileBytes && sum === contentBytes ? extents : undefined;
}

export function encodeFooter(footer: Footer): Buffer {
  const bytes = Buffer.alloc(FOOTER_BYTES);
  bytes.writeUInt32LE(FOOTER_MAGIC, 0);
  bytes.writeUInt32LE(footer.batches, 4);
  bytes.writeBigUInt64LE(BigInt(footer.contentBytes), 8);
  bytes.writeBigUInt64LE(BigInt(footer.containerBytes), 16);
  bytes.writeUInt32LE(footer.chain, 24);
  return sealed(bytes);
}

export function decodeFooter(bytes: Buffer): Footer | undefined {
  if (bytes.length !== FOOTER_BYTES || bytes.readUInt32LE(0) !== FOOTER_MAGIC) return undefined;
  if (!isSealed(bytes)) return undefined;
  const [contentBytes, containerBytes] = [readCount(bytes, 8), readCount(bytes, 16)];
  if (contentBytes === undefined || containerBytes === undefined) return undefined;
  const [batches, chain] = [bytes.readUInt32LE(4), bytes.readUInt32LE(24)];
  return { batches, contentBytes, containerBytes, chain };
}

export function footersAgree(a: Footer, b: Footer): boolean {
  return (
    a.batches === b.batches &&
    a.contentBytes === b.contentBytes &&
    a.containerBytes === b.containerBytes &&
    a.chain === b.chain
  );
}

/** Puts the CRC of all before them into the last four bytes. */
function sealed(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

function isSealed(bytes: Buffer): boolean {
  return crc32(bytes.subarray(0, -4)) === bytes.readUInt32LE(bytes.length - 4);
}

function readCount(bytes: Buffer, at: number): number | undefined {
  const value = Number(bytes.readBigUInt64LE(at));
  return Number.isSafeInteger(value) ? value : undefined;
}
