import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ShadowError } from '../../shadow/index.ts';
import { Mapping, populate } from '../../shadow/mapping.ts';
import { scratchFolder } from '../support/scratch.ts';

const PAGE = 4096;
const GIBIBYTE = 2 ** 30;

const test = suite('mapping');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-mapping-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

/** Holes, but for these pages, each full of its own byte. */
function sparse(length: number, pages: ReadonlyMap<number, number>): string {
  const path = join(root, 'image');
  const fd = openSync(path, 'w');
  ftruncateSync(fd, length);
  for (const [at, byte] of pages) writeSync(fd, Buffer.alloc(PAGE, byte), 0, PAGE, at);
  closeSync(fd);
  return path;
}

test('a file larger than any buffer is compared and copied throughout', () => {
  const length = 5 * GIBIBYTE + PAGE;
  const places = [0, GIBIBYTE - PAGE, GIBIBYTE, 4 * GIBIBYTE - PAGE, 4 * GIBIBYTE, 5 * GIBIBYTE];
  const pages = new Map(places.map((at, index) => [at, index + 1]));
  const mapping = new Mapping(sparse(length, pages), length);
  try {
    for (const [at, byte] of pages) {
      const chunk = Buffer.concat([Buffer.alloc(100), Buffer.alloc(PAGE, byte)]);
      assert.ok(mapping.equals(at, chunk, 100, PAGE), `at ${at}`);
      assert.not(mapping.equals(at, chunk, 99, PAGE), `shifted at ${at}`);
      const copy = Buffer.alloc(PAGE);
      mapping.copy(at, copy);
      assert.equal(copy, Buffer.alloc(PAGE, byte));
    }
  } finally {
    mapping.close();
  }
});

test('reading beyond the end, or after the end of the mapping, is an error and no signal', () => {
  const mapping = new Mapping(sparse(2 * PAGE, new Map()), 2 * PAGE);
  const isClosed = ({ code }: ShadowError) => code === 'E_SHADOW_CLOSED';
  assert.throws(() => mapping.copy(PAGE, Buffer.alloc(2 * PAGE)), isClosed);
  assert.throws(() => mapping.copy(GIBIBYTE, Buffer.alloc(PAGE)), isClosed);
  mapping.close();
  mapping.close();
  assert.throws(() => mapping.copy(0, Buffer.alloc(PAGE)), isClosed);
});

test('a file of another length is refused before anything is mapped', () => {
  const isCorrupt = ({ code }: ShadowError) => code === 'E_EPOCH_CORRUPT';
  assert.throws(() => new Mapping(sparse(PAGE, new Map()), 2 * PAGE), isCorrupt);
});

test('populating turns holes into memory, and changes nothing else of the file', async () => {
  const length = 3 * 2 ** 20 + PAGE;
  const path = sparse(length, new Map([[PAGE, 7]]));
  const before = statSync(path, { bigint: true });
  const content = readFileSync(path);
  assert.ok(await populate(path), 'this kernel can');
  const after = statSync(path, { bigint: true });
  assert.is(Number(after.blocks) * 512, length);
  assert.equal([after.mtimeNs, after.ctimeNs], [before.mtimeNs, before.ctimeNs]);
  assert.ok(readFileSync(path).equals(content));
});

test('if there is no memory for holes, that is an error, and no process is killed', async () => {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'umbra-test', root]);
  try {
    const error = await populate(sparse(4 * 2 ** 20, new Map())).then(
      () => undefined,
      (failed: ShadowError) => failed,
    );
    assert.is(error?.code, 'E_STORE_NO_ROOM');
    assert.match(error?.message ?? '', /no memory for the holes/);
  } finally {
    execFileSync('umount', [root]);
  }
});

test.run();
