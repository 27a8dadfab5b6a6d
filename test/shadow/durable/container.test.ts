/** A container gives back its content, and damage to it is found before any of it is used. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  BATCH_BYTES,
  BATCH_HEADER_BYTES,
  decodeBatchHeader,
  decodeExtents,
  EXTENT_BYTES,
  type Extent,
  encodeBatchHeader,
  encodeExtents,
  FOOTER_BYTES,
  HEADER_BYTES,
  keyOf,
  METHOD_LZ4,
  STORED_MAX,
} from '../../../shadow/durable/container.ts';
import { Pace } from '../../../shadow/durable/pace.ts';
import { peekContainer, readContainer } from '../../../shadow/durable/reader.ts';
import { batchesOf, writeContainer } from '../../../shadow/durable/writer.ts';
import type { ShadowError } from '../../../shadow/index.ts';
import { scratchFolder } from '../../support/scratch.ts';

const PAGE = 4096;
const KEY = keyOf('f'.repeat(64), 'ram-0.img');

const test = suite('container');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-container-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

const path = (name: string) => join(root, name);

function write(source: string, target: string) {
  const pace = new Pace(undefined, { now: () => 0, sleep: async () => {} });
  return writeContainer(source, target, KEY, { pace, onStep: () => {}, onContent: () => {} });
}

/** Reads a container into a file of that name. */
async function read(container: string, name = 'back', key = KEY): Promise<void> {
  const fd = openSync(path(name), 'w');
  try {
    await readContainer(container, key, {
      length: (bytes) => ftruncateSync(fd, bytes),
      write: (content, at, { offset, bytes }) => {
        writeSync(fd, content, at, bytes, offset);
      },
    });
  } finally {
    closeSync(fd);
  }
}

async function refusal(container: string, key = KEY): Promise<string | undefined> {
  return read(container, 'refused', key).then(
    () => undefined,
    (error: ShadowError) => error.code,
  );
}

/** Makes a file in which the pages that `fill` returns have content, and the others are holes. */
function sparse(name: string, bytes: number, fill: (page: number) => Buffer | undefined): string {
  const fd = openSync(path(name), 'w');
  ftruncateSync(fd, bytes);
  for (let page = 0; page * PAGE < bytes; page++) {
    const content = fill(page);
    if (content !== undefined) {
      writeSync(fd, content, 0, Math.min(PAGE, bytes - page * PAGE), page * PAGE);
    }
  }
  closeSync(fd);
  return path(name);
}

const noise = () => randomBytes(PAGE);
const text = (page: number) => Buffer.alloc(PAGE, `page ${page} `);

const SHAPES: readonly (readonly [string, number, (page: number) => Buffer | undefined])[] = [
  ['no bytes at all', 0, () => undefined],
  ['one byte', 1, noise],
  ['a length that is no multiple of a page', 3 * PAGE + 17, text],
  ['nothing but a hole', 64 * PAGE, () => undefined],
  ['noise, which does not shrink', 3 * BATCH_BYTES + PAGE, noise],
  ['text, which does', 3 * BATCH_BYTES, text],
  ['every other page', 2048 * PAGE, (page) => (page % 2 === 0 ? noise() : undefined)],
  ['a hole at both ends', 900 * PAGE, (page) => (page > 9 && page < 800 ? text(page) : undefined)],
];

for (const [name, bytes, fill] of SHAPES) {
  test(`${name}: the same bytes come back, and holes are holes`, async () => {
    const source = sparse('source', bytes, fill);
    const footer = await write(source, path('container'));
    assert.is(footer.containerBytes, statSync(path('container')).size);
    await read(path('container'));
    assert.ok(readFileSync(path('back')).equals(readFileSync(source)));
    assert.is(statSync(path('back')).blocks, statSync(source).blocks);
  });
}

test('holes take no space, and text takes less than its length', async () => {
  const source = sparse('source', 4096 * PAGE, (page) => (page < 256 ? text(page) : undefined));
  const { contentBytes, containerBytes } = await write(source, path('container'));
  assert.is(contentBytes, 256 * PAGE);
  assert.ok(containerBytes < contentBytes / 4, `${containerBytes} bytes`);
});

test('batches are filled, no run of content is lost, and none is too large', () => {
  const runs: Extent[] = [
    { offset: 0, bytes: 2.5 * BATCH_BYTES },
    ...Array.from({ length: 3000 }, (_, index) => ({
      offset: 4 * BATCH_BYTES + index * 2 * 8,
      bytes: 8,
    })),
  ];
  const batches = [...batchesOf(runs)];
  const total = (extents: readonly Extent[]) => extents.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.is(total(batches.flat()), total(runs));
  assert.ok(batches.every((batch) => total(batch) <= BATCH_BYTES && batch.length <= 1024));
  assert.ok(total(batches[0] ?? []) === BATCH_BYTES);
});

/** Makes a small container with batches of both methods. @returns it, and where its parts begin */
async function specimen(): Promise<{ bytes: Buffer; batches: number[] }> {
  const source = sparse('source', 600 * PAGE, (page) => {
    return page < 256 ? noise() : page > 300 && page < 560 ? text(page) : undefined;
  });
  await write(source, path('container'));
  const bytes = readFileSync(path('container'));
  const batches: number[] = [];
  for (let at = HEADER_BYTES; at < bytes.length - FOOTER_BYTES; ) {
    batches.push(at);
    const header = decodeBatchHeader(bytes.subarray(at, at + BATCH_HEADER_BYTES));
    if (header === undefined) throw new Error('no batch header');
    at += BATCH_HEADER_BYTES + header.extents * EXTENT_BYTES + header.storedBytes;
  }
  return { bytes, batches };
}

function harmed(bytes: Buffer): string {
  writeFileSync(path('harmed'), bytes);
  return path('harmed');
}

test('a flipped bit is found, wherever it is', async () => {
  const { bytes, batches } = await specimen();
  assert.is(batches.length, 3);
  const positions = new Set<number>();
  const every = (from: number, to: number, step = 1) => {
    for (let at = from; at < to; at += step) positions.add(at);
  };
  every(0, HEADER_BYTES);
  for (const at of batches) every(at, at + BATCH_HEADER_BYTES + 3 * EXTENT_BYTES);
  every(HEADER_BYTES, bytes.length, 50_021);
  every(bytes.length - FOOTER_BYTES - 8, bytes.length);
  const container = harmed(bytes);
  const fd = openSync(container, 'r+');
  try {
    for (const at of positions) {
      writeSync(fd, Buffer.of(bytes.readUInt8(at) ^ (1 << (at % 8))), 0, 1, at);
      assert.is(await refusal(container), 'E_EPOCH_CORRUPT', `byte ${at} of ${bytes.length}`);
      writeSync(fd, bytes, at, 1, at);
    }
  } finally {
    closeSync(fd);
  }
  assert.is(await refusal(container), undefined, 'each was put back');
});

test('a container that was cut off is found, wherever it was cut', async () => {
  const { bytes, batches } = await specimen();
  const edges = [0, HEADER_BYTES, ...batches, bytes.length - FOOTER_BYTES];
  const inside = batches.flatMap((at) => [at + BATCH_HEADER_BYTES, at + BATCH_HEADER_BYTES + 40]);
  for (const edge of [...edges, ...inside, bytes.length]) {
    for (const length of [edge - 1, edge, edge + 1]) {
      if (length < 0 || length >= bytes.length) continue;
      const code = await refusal(harmed(bytes.subarray(0, length)));
      assert.is(code, 'E_EPOCH_CORRUPT', `cut to ${length} of ${bytes.length}`);
    }
  }
  const longer = Buffer.concat([bytes, Buffer.alloc(1)]);
  assert.is(await refusal(harmed(longer)), 'E_EPOCH_CORRUPT', 'one byte too many');
});

test('a missing, doubled or moved batch is found', async () => {
  const { bytes, batches } = await specimen();
  const [first = 0, second = 0, third = 0] = batches;
  const end = bytes.length - FOOTER_BYTES;
  const part = (from: number, to: number) => bytes.subarray(from, to);
  const head = part(0, first);
  const [one, two, three] = [part(first, second), part(second, third), part(third, end)];
  const tail = part(end, bytes.length);
  const cases: readonly Buffer[][] = [
    [head, one, three, tail],
    [head, one, two, tail],
    [head, one, one, two, three, tail],
    [head, two, one, three, tail],
    [head, tail],
  ];
  for (const [index, parts] of cases.entries()) {
    assert.is(await refusal(harmed(Buffer.concat(parts))), 'E_EPOCH_CORRUPT', `case ${index}`);
  }
  assert.is(await refusal(harmed(Buffer.concat([head, one, two, three, tail]))), undefined);
});

test('a batch of an earlier container of the same file is found', async () => {
  const { bytes, batches } = await specimen();
  const other = await specimen();
  const [from = 0, to = 0] = batches;
  const mixed = Buffer.from(bytes);
  other.bytes.copy(mixed, from, from, to); // noise: the same length in both
  assert.not(mixed.equals(bytes));
  assert.is(await refusal(harmed(mixed)), 'E_EPOCH_CORRUPT');
});

test('another file’s container is found', async () => {
  await specimen();
  const other = keyOf('f'.repeat(64), 'ram-1.img');
  assert.is(await refusal(path('container'), other), 'E_EPOCH_CORRUPT');
});

test('a missing container is found', async () => {
  assert.is(await refusal(path('nowhere')), 'E_EPOCH_CORRUPT');
});

test('a newer or older version is refused by name, and not called damaged', async () => {
  const { bytes } = await specimen();
  for (const version of [0, 3]) {
    const other = withVersion(bytes, version);
    assert.is(await refusal(harmed(other)), 'E_MANIFEST_VERSION', `version ${version}`);
    assert.is(await peekContainer(harmed(other), KEY), undefined);
  }
});

test('the version before is read like this one', async () => {
  const { bytes } = await specimen();
  assert.is(bytes.readUInt32LE(8), 2);
  const older = harmed(withVersion(bytes, 1));
  assert.is(await refusal(older), undefined);
  assert.ok(await peekContainer(older, KEY));
});

function withVersion(container: Buffer, version: number): Buffer {
  const bytes = Buffer.from(container);
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, HEADER_BYTES - 4)), HEADER_BYTES - 4);
  return bytes;
}

test('lengths are limited, even if all checksums are right', () => {
  const fine = {
    index: 0,
    extents: 1,
    method: METHOD_LZ4,
    contentBytes: PAGE,
    storedBytes: PAGE,
    contentCrc: 0,
    storedCrc: 0,
  };
  assert.ok(decodeBatchHeader(encodeBatchHeader(fine)));
  const wrong = [
    { contentBytes: BATCH_BYTES + 1 },
    { storedBytes: STORED_MAX + 1 },
    { extents: 0 },
    { extents: 1025 },
    { method: 2 },
    { method: 0, storedBytes: PAGE - 1 },
  ];
  for (const change of wrong) {
    assert.is(decodeBatchHeader(encodeBatchHeader({ ...fine, ...change })), undefined);
  }
});

test('extents ascend, stay in the file and add up', () => {
  const ask = (extents: Extent[], from: number, fileBytes: number, content: number) =>
    decodeExtents(encodeExtents(extents), from, fileBytes, content);
  const two = [
    { offset: 10, bytes: 5 },
    { offset: 20, bytes: 5 },
  ];
  assert.equal(ask(two, 10, 25, 10), two);
  assert.is(ask(two, 11, 25, 10), undefined, 'it overlaps the batch before');
  assert.is(ask(two, 10, 24, 10), undefined, 'it reaches out of the file');
  assert.is(ask(two, 10, 25, 11), undefined, 'it is less than the batch holds');
  assert.is(ask(two.toReversed(), 0, 25, 10), undefined, 'it goes back');
  const far = [{ offset: Number.MAX_SAFE_INTEGER, bytes: 5 }];
  assert.is(ask(far, 0, 25, 5), undefined);
});

test('a pace is kept, and a pause is not caught up', async () => {
  let now = 0;
  const clock = {
    now: () => now,
    sleep: async (ms: number) => {
      now += ms;
    },
  };
  const pace = new Pace(1_000_000, clock);
  for (let count = 0; count < 20; count++) await pace.spend(100_000);
  assert.ok(now >= 1_990 && now <= 2_010, `2 MB at 1 MB/s took ${now} ms`);
  now += 60_000;
  const before = now;
  for (let count = 0; count < 10; count++) await pace.spend(100_000);
  assert.ok(now - before >= 800, `1 MB after a pause took ${now - before} ms`);
});

test.run();
