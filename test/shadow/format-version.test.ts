import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DURABLE_FORMAT } from '../../shadow/durable/durable-manifest.ts';
import { type ManifestFormat, sha256Of, unwrap, wrap } from '../../shadow/envelope.ts';
import {
  CONTAINER_FORMAT,
  PAGE_INDEX_FORMAT,
  requireFeatures,
  requireVersion,
} from '../../shadow/format-version.ts';
import type { ShadowError } from '../../shadow/index.ts';
import { EPOCH_FORMAT, makeEpochManifest, SHADOW_FORMAT } from '../../shadow/manifest.ts';

const test = suite('versions of formats');
const FORMATS = [SHADOW_FORMAT, EPOCH_FORMAT, DURABLE_FORMAT, CONTAINER_FORMAT, PAGE_INDEX_FORMAT];
const EPOCH = makeEpochManifest({
  cluster: 'demo',
  epoch: 7,
  round: 'r000007-0123abcd',
  createdAt: '2030-01-01T00:00:00.000Z',
  members: [{ name: 'a', shadow: 'f'.repeat(64) }],
});

function refusal(work: () => unknown): ShadowError {
  try {
    work();
  } catch (error) {
    return error as ShadowError;
  }
  return assert.unreachable() as never;
}

function read(body: object, format: ManifestFormat<object> = EPOCH_FORMAT): object {
  return unwrap(wrap(body), format, '/store/000007.json');
}

for (const format of FORMATS) {
  test(`${format.name}: the version of 0.1 and the next are read, and no other`, () => {
    assert.is(format.version, format.first + 1);
    requireVersion(format, format.first, '/file');
    requireVersion(format, format.version, '/file');
    const newer = refusal(() => requireVersion(format, format.version + 1, '/file'));
    const older = refusal(() => requireVersion(format, format.first - 1, '/file'));
    assert.equal([newer.code, older.code], ['E_MANIFEST_VERSION', 'E_MANIFEST_VERSION']);
    assert.match(newer.message, 'written by a newer Umbra');
    assert.match(older.message, 'written by an older Umbra');
    assert.match(older.message, 'take a new checkpoint');
    assert.equal([newer.path, older.path], ['/file', '/file']);
  });
}

test('the error of an old version names the releases that read it', () => {
  const later = { name: 'umbra-epoch', version: 3, first: 1 };
  const { message } = refusal(() => requireVersion(later, 1, '/file'));
  assert.match(message, 'this one reads 2 and 3. Umbra 0.1 and 0.2 can read it.');
  const latest = { name: 'umbra-epoch', version: 4, first: 1 };
  assert.match(refusal(() => requireVersion(latest, 2, '/file')).message, 'Umbra 0.2 can read it.');
});

test('a feature that is not known is refused by name, and one that is known is not', () => {
  const format = { name: 'umbra-epoch', version: 2, first: 1, features: ['hosts'] };
  requireFeatures(format, [], '/file');
  requireFeatures(format, ['hosts'], '/file');
  const { code, message } = refusal(() => requireFeatures(format, ['hosts', 'stripes'], '/file'));
  assert.is(code, 'E_MANIFEST_FEATURE');
  assert.match(message, 'requires the feature "stripes"');
});

test('a manifest of the version before is read in the shape of this one', () => {
  assert.equal(read({ ...EPOCH, version: 1 }), EPOCH);
});

test('a field that is not known is ignored', () => {
  const [member] = EPOCH.members;
  assert.equal(read({ ...EPOCH, host: 'b', members: [{ ...member, copies: ['c'] }] }), EPOCH);
});

test('a list of no required features is as good as none', () => {
  assert.equal(read({ ...EPOCH, requires: [] }), { ...EPOCH, requires: [] });
});

test('an unknown feature is refused before the schema, which it may have changed', () => {
  const future = { format: 'umbra-epoch', version: 2, requires: ['stripes'], stripes: 4 };
  assert.is(refusal(() => read(future)).code, 'E_MANIFEST_FEATURE');
});

test('a version is refused before the digest is compared, which it may have changed', () => {
  const text = wrap({ ...EPOCH, version: 3 }).replace(/[0-9a-f]{64}/, '0'.repeat(64));
  assert.is(refusal(() => unwrap(text, EPOCH_FORMAT, '/file')).code, 'E_MANIFEST_VERSION');
});

test('damage is reported as damage, also in the name of a required feature', () => {
  const body = { ...EPOCH, requires: ['hosts'] };
  const text = wrap(body).replace('"hosts"', '"hostz"');
  assert.is(refusal(() => unwrap(text, EPOCH_FORMAT, '/file')).code, 'E_MANIFEST_INVALID');
  assert.is(refusal(() => read({ ...EPOCH, requires: 'hosts' })).code, 'E_MANIFEST_INVALID');
});

test('a manifest is written in the newest version', () => {
  const text = wrap(EPOCH);
  const { sha256, body } = JSON.parse(text) as { sha256: string; body: { version: number } };
  assert.is(body.version, 2);
  assert.is(sha256, sha256Of(JSON.stringify(body)));
});

test.run();
