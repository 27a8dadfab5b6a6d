/** Every code in the sources is in a table, with its meaning and a hint for the operator. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CATALOGUE, entryOf, statusOf } from '../../../proxy/failure/catalogue.ts';
import { toFailure } from '../../../proxy/failure/failure.ts';
import { codesReference } from '../../../proxy/failure/reference.ts';
import { STREAM_ERRORS, StreamError } from '../../../proxy/stream/errors.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const SOURCES = ['proxy', 'qmp', 'shadow', 'policies', 'tools/cli'];
/** Files that list codes and raise none. */
const TABLES = [
  'proxy/failure/codes.ts',
  'proxy/stream/errors.ts',
  'qmp/errors.ts',
  'qmp/libvirt/errors.ts',
  'shadow/errors.ts',
];

/** Codes an operator needs no hint for, and why. */
const WITHOUT: Readonly<Record<string, string>> = {
  E_QMP_ABORTED: 'its caller gave it up; no report carries it',
  E_SHADOW_CLOSED: 'a broken invariant of Umbra',
  E_NOT_LOADED: 'a broken invariant of Umbra',
  E_BAD_REQUEST: 'its message names the field; Umbra’s own commands send none',
  E_ROUTE_UNKNOWN: 'its message names the address; Umbra’s own commands ask for no such',
};

const test = suite('catalogue of codes');

const files = SOURCES.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((file) =>
    join(folder, file),
  ),
).filter((file) => file.endsWith('.ts') && !TABLES.includes(file));

const texts = files.map((file) => readFileSync(join(ROOT, file), 'utf8'));

const raised = new Set(
  texts.flatMap((text) =>
    [...text.matchAll(/(?<!startsWith\()'(E_[A-Z0-9_]+)'/g)].map(([, code = '']) => code),
  ),
);
const listed = Object.values(CATALOGUE).flatMap((table) => Object.keys(table));

test('every code that is raised is listed, once', () => {
  assert.ok(raised.size > 100, `${raised.size} codes were found`);
  assert.equal(
    [...raised].filter((code) => !listed.includes(code)),
    [],
  );
  assert.is(new Set(listed).size, listed.length);
});

test('every code that is listed is raised', () => {
  // libvirt's are chosen by a function of its table's own file.
  const chosen = readFileSync(join(ROOT, 'qmp/libvirt/errors.ts'), 'utf8');
  const unused = listed.filter((code) => !raised.has(code) && !chosen.includes(`return '${code}'`));
  assert.equal(
    unused.filter((code) => !chosen.includes(`LibvirtError('${code}'`)),
    [],
  );
});

test('every code has a hint, or a reason to have none', () => {
  const silent = listed.filter((code) => entryOf(code)?.hint === undefined);
  assert.equal(silent.sort(), Object.keys(WITHOUT).sort());
});

test('meanings and hints are sentences', () => {
  for (const code of listed) {
    const { meaning = '', hint } = entryOf(code) ?? {};
    assert.match(meaning, /^\S.*[.)]$/, code);
    if (hint !== undefined) assert.match(hint, /^[A-Z]|^libvirt/, code);
  }
});

test('an answer has the status of its code', () => {
  assert.is(statusOf('E_EPOCH_UNKNOWN'), 404);
  assert.is(statusOf('E_BAD_REQUEST'), 400);
  assert.is(statusOf('E_INTERNAL'), 500);
  assert.is(statusOf('E_ROUND_BUSY'), 409);
});

test('a refused stream carries a hint to the operator, whatever is wrong with it', () => {
  for (const code of Object.keys(STREAM_ERRORS) as (keyof typeof STREAM_ERRORS)[]) {
    const failure = toFailure(new StreamError(code, 'seen', 7, 'ram PART'), { member: 'm0' });
    assert.equal([failure.code, failure.member], [code, 'm0']);
    assert.ok(failure.hint, code);
  }
});

test('the operator’s reference is the one of these tables: npm run reference', () => {
  const path = join(ROOT, 'proxy/failure/CODES.md');
  assert.is(readFileSync(path, 'utf8'), codesReference());
});

test.run();
