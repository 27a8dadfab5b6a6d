import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { buildIdOf } from '../../../proxy/host/build-id.ts';
import { suite } from '../../support/suite.ts';

const test = suite('host: build-id of a program');
const QEMU = '/usr/bin/qemu-system-x86_64';
let folder = '';

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'build-id-'));
});
test.after.each(() => rmSync(folder, { recursive: true }));

test('of a real QEMU it is a digest', () => {
  assert.match(buildIdOf(QEMU) ?? '', /^[0-9a-f]{40}$/);
});

test('it is found behind another note', () => {
  const path = join(folder, 'program');
  const id = Buffer.from('0123456789abcdef0123456789abcdef01234567', 'hex');
  writeFileSync(path, program([note('stapsdt\0', 3, Buffer.alloc(5)), note('GNU\0', 3, id)]));
  assert.is(buildIdOf(path), id.toString('hex'));
});

test('a script, a folder, a file that is gone, an empty one: none', () => {
  const script = join(folder, 'script');
  writeFileSync(script, '#!/bin/sh\n');
  const empty = join(folder, 'empty');
  writeFileSync(empty, '');
  for (const path of [script, folder, join(folder, 'gone'), empty]) {
    assert.is(buildIdOf(path), undefined, path);
  }
});

test('a program that ends early, or whose header lies, has none', () => {
  const copy = join(folder, 'copy');
  const head = readFileSync(QEMU).subarray(0, 4096);
  writeFileSync(copy, head);
  truncateSync(copy, 80);
  assert.is(buildIdOf(copy), undefined);
  const lies = Buffer.from(head);
  lies.writeBigUInt64LE(2n ** 63n, 32); // where program headers begin
  writeFileSync(copy, lies);
  assert.is(buildIdOf(copy), undefined);
});

/** Returns a program without code that has these notes. */
function program(notes: readonly Buffer[]): Buffer {
  const content = Buffer.concat(notes);
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01', 'latin1');
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(1, 56);
  const entry = Buffer.alloc(56);
  entry.writeUInt32LE(4, 0);
  entry.writeBigUInt64LE(120n, 8);
  entry.writeBigUInt64LE(BigInt(content.length), 32);
  return Buffer.concat([header, entry, content]);
}

function note(name: string, type: number, content: Buffer): Buffer {
  const sizes = Buffer.alloc(12);
  sizes.writeUInt32LE(name.length, 0);
  sizes.writeUInt32LE(content.length, 4);
  sizes.writeUInt32LE(type, 8);
  const padding = Buffer.alloc((4 - (content.length % 4)) % 4);
  return Buffer.concat([sizes, Buffer.from(name), content, padding]);
}

test.run();
