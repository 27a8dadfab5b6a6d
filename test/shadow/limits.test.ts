/**
 * Limits of stored things: at the limit they are read; one above it they are refused, even if their
 * digests are right.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MANIFEST_LIMIT_BYTES, unwrap, wrap } from '../../shadow/envelope.ts';
import { Catalogue, makeEpochManifest, openShadow, type ShadowError } from '../../shadow/index.ts';
import { SHADOW_FORMAT } from '../../shadow/manifest.ts';
import { scratchFolder } from '../support/scratch.ts';

const EPOCH = makeEpochManifest({
  cluster: 'demo',
  epoch: 7,
  round: 'r000007-0123abcd',
  createdAt: '2030-01-01T00:00:00.000Z',
  members: [{ name: 'a', shadow: 'f'.repeat(64) }],
});

const test = suite('limits of the store');
let root = '';

test.before.each(() => {
  root = mkdtempSync(join(scratchFolder(), 'umbra-limits-'));
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

/** Pads a manifest with blanks to a length. */
function padded(body: object, bytes: number): string {
  return wrap(body).padEnd(bytes);
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'read',
    (error: ShadowError) => error.code,
  );
}

test('an epoch’s manifest has a greatest length', async () => {
  const catalogue = new Catalogue(root, 'demo');
  const path = join(root, '000007.json');
  writeFileSync(path, padded(EPOCH, MANIFEST_LIMIT_BYTES));
  assert.is(await codeOf(catalogue.read(7)), 'read');
  writeFileSync(path, padded(EPOCH, MANIFEST_LIMIT_BYTES + 1));
  assert.is(await codeOf(catalogue.read(7)), 'E_MANIFEST_INVALID');
});

test('a shadow’s manifest that has grown too long is not read at all', async () => {
  const path = join(root, 'shadow.json');
  writeFileSync(path, '{}');
  truncateSync(path, 2 ** 40); // a hole, of a length no memory holds
  const startedAt = performance.now();
  assert.is(await codeOf(openShadow(root)), 'E_MANIFEST_INVALID');
  assert.ok(performance.now() - startedAt < 60_000, 'a tebibyte is not read in that');
});

test('members and texts of an epoch’s manifest have limits', async () => {
  const catalogue = new Catalogue(root, 'demo');
  const path = join(root, '000007.json');
  const member = (_: unknown, at: number) => ({ name: `m${at}`, shadow: 'f'.repeat(64) });
  for (const [count, expected] of [
    [10_000, 'read'],
    [10_001, 'E_MANIFEST_INVALID'],
  ] as const) {
    const members = Array.from({ length: count }, member);
    writeFileSync(path, wrap({ ...EPOCH, members }));
    assert.is(await codeOf(catalogue.read(7)), expected);
  }
  for (const name of ['../a', 'a/b', '..', '.', '', 'a'.repeat(129), 'a\0']) {
    writeFileSync(path, wrap({ ...EPOCH, members: [{ name, shadow: 'f'.repeat(64) }] }));
    assert.is(await codeOf(catalogue.read(7)), 'E_MANIFEST_INVALID', name);
  }
});

test('blocks and page size of a shadow’s manifest have limits', () => {
  const file = { file: 'x', bytes: 1, sha256: 'f'.repeat(64) };
  const witness = { boot: '', inode: '1', size: 1, modifiedNs: '1', changedNs: '1' };
  const block = { idstr: 'pc.ram', bytes: 4096, kind: 'full', file: 'ram-0.img', fileBytes: 4096 };
  const stored = { ...block, witness, storedBytes: 0, index: { ...file, witness } };
  const identity = { machineType: '', qemuVersion: '', uuid: '', name: '', workingDirectory: '/' };
  const read = (pageSize: number, blocks: number): string => {
    const body = {
      format: 'umbra-shadow',
      version: SHADOW_FORMAT.version,
      member: 'a',
      round: 'r1',
      pageSize,
      identity: { ...identity, commandLine: [] },
      blocks: Array.from({ length: blocks }, () => stored),
      configuration: { ...file, witness },
      deviceState: { ...file, witness },
    };
    try {
      unwrap(wrap(body), SHADOW_FORMAT, '/shadow.json');
      return 'read';
    } catch (error) {
      return (error as ShadowError).code;
    }
  };
  assert.equal([read(65_536, 1), read(65_537, 1)], ['read', 'E_MANIFEST_INVALID']);
  assert.equal([read(4096, 1024), read(4096, 1025)], ['read', 'E_MANIFEST_INVALID']);
});

test.run();
