/**
 * Fuzz target: containers of the durable tier. Reading throws nothing but a ShadowError. Content
 * comes in order, inside the file, and no more of it than the footer says. A container that is
 * accepted holds the same when it is written again.
 */
import { strict as assert } from 'node:assert';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import {
  BATCH_HEADER_BYTES,
  BATCH_MAGIC,
  chainOf,
  EXTENT_BYTES,
  type Extent,
  encodeFooter,
  FOOTER_BYTES,
  footersAgree,
  HEADER_BYTES,
  keyOf,
} from '../../../shadow/durable/container.ts';
import { Pace } from '../../../shadow/durable/pace.ts';
import { peekContainer, readContainer } from '../../../shadow/durable/reader.ts';
import { writeContainer } from '../../../shadow/durable/writer.ts';
import { ShadowError } from '../../../shadow/errors.ts';
import { codeOf, type Target } from '../target.ts';
import { makeFolder } from '../target-folder.ts';

const folder = makeFolder('container');
const path = (name: string): string => join(folder, name);

export const KEY = keyOf('f'.repeat(64), 'ram-0.img');
/** Most bytes of a file that is written again. */
const AGAIN_BYTES_MAX = 2 ** 20;
const PACE = new Pace(undefined, { now: () => 0, sleep: async () => {} });
export const WRITE_OPTIONS = { pace: PACE, onStep: () => {}, onContent: () => {} };

export const target: Target = {
  covers: ['shadow/durable/container.ts', 'shadow/durable/reader.ts'],
  inputBytesMax: 20_000,
  words: ['UMBRADUR', 'BTCH', 'DONE', Buffer.from('00100000', 'hex'), Buffer.alloc(36)],
  mend,
  async check(input) {
    writeFileSync(path('in'), input);
    const read = await content('in').catch((error: unknown) => codeOf(error, ShadowError));
    const peeked = await peekContainer(path('in'), KEY);
    if (typeof read === 'string') return read;
    assert.ok(peeked !== undefined && footersAgree(peeked, read.footer));
    if (read.bytes > AGAIN_BYTES_MAX) return 'accepted, large';
    writeFileSync(path('plain'), '');
    truncateSync(path('plain'), read.bytes);
    const plain = Buffer.alloc(read.bytes);
    for (const { data, offset } of read.parts) plain.set(data, offset);
    writeFileSync(path('plain'), plain);
    await writeContainer(path('plain'), path('again'), KEY, WRITE_OPTIONS);
    const again = await content('again');
    const copy = Buffer.alloc(again.bytes);
    for (const { data, offset } of again.parts) copy.set(data, offset);
    assert.ok(copy.equals(plain));
    return 'accepted';
  },
};

interface Part {
  readonly data: Buffer;
  readonly offset: number;
}

async function content(name: string) {
  const parts: Part[] = [];
  let bytes = -1;
  let end = 0;
  const footer = await readContainer(path(name), KEY, {
    length: (count) => {
      assert.equal(bytes, -1);
      bytes = count;
    },
    write: (data: Buffer, at: number, extent: Extent) => {
      assert.ok(extent.offset >= 0 && extent.offset + extent.bytes <= bytes);
      assert.ok(at + extent.bytes <= data.length);
      end += extent.bytes;
      parts.push({ data: data.subarray(at, at + extent.bytes), offset: extent.offset });
    },
  });
  assert.equal(end, footer.contentBytes);
  return { parts, bytes, footer };
}

/** Makes every checksum and count fit the bytes before it. */
function mend(input: Buffer): Buffer {
  if (input.length < HEADER_BYTES) return input;
  const bytes = Buffer.from(input);
  const seal = (from: number, to: number): unknown =>
    bytes.writeUInt32LE(crc32(bytes.subarray(from, to - 4)), to - 4);
  seal(0, HEADER_BYTES);
  let at = HEADER_BYTES;
  let batches = 0;
  let contentBytes = 0;
  let chain = 0;
  while (at + BATCH_HEADER_BYTES <= bytes.length && bytes.readUInt32LE(at) === BATCH_MAGIC) {
    const head = bytes.subarray(at, at + BATCH_HEADER_BYTES);
    const from = at + BATCH_HEADER_BYTES;
    const storedAt = from + head.readUInt32LE(8) * EXTENT_BYTES;
    const to = storedAt + head.readUInt32LE(20);
    if (to > bytes.length) break;
    if (head.readUInt32LE(12) === 0) head.writeUInt32LE(crc32(bytes.subarray(storedAt, to)), 24);
    head.writeUInt32LE(crc32(bytes.subarray(from, to)), 28);
    seal(at, from);
    chain = chainOf(head, chain);
    contentBytes += head.readUInt32LE(16);
    batches++;
    at = to;
  }
  const footer = encodeFooter({ batches, contentBytes, containerBytes: at + FOOTER_BYTES, chain });
  return Buffer.concat([bytes.subarray(0, at), footer]);
}
