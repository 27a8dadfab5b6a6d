/** Whatever can fail tells an operator what to do next: every code in the sources has a hint. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toFailure } from '../../../proxy/failure/failure.ts';
import { hintFor } from '../../../proxy/failure/hints.ts';
import { STREAM_ERRORS, StreamError } from '../../../proxy/stream/errors.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const SOURCES = ['proxy', 'qmp', 'shadow', 'policies', 'tools/cli'];
const HINTS = 'proxy/failure/hints.ts';

/** Codes nobody needs a hint for, and why. */
const WITHOUT: Readonly<Record<string, string>> = {
  E_QMP_ABORTED: 'whoever gave it up knows; no report carries it',
  E_QMP_OVERFLOW: 'a broken invariant of ours',
  E_SHADOW_CLOSED: 'a broken invariant of ours',
  E_NOT_LOADED: 'a broken invariant of ours',
  E_BAD_REQUEST: 'its message names the field; our own commands send none',
  E_ROUTE_UNKNOWN: 'its message names the address; our own commands ask for no such',
};

const test = suite('hints');

function codesIn(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  return [...text.matchAll(/(?<!startsWith\()'(E_[A-Z0-9_]+)'/g)].map(([, code = '']) => code);
}

const raised = new Set(
  SOURCES.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((file) =>
      join(folder, file),
    ),
  )
    .filter((file) => file.endsWith('.ts') && file !== HINTS)
    .flatMap(codesIn),
);

test('every code has one, or a reason to have none', () => {
  assert.ok(raised.size > 100, `${raised.size} codes were found`);
  const silent = [...raised].filter((code) => hintFor(code) === undefined);
  assert.equal(silent.sort(), Object.keys(WITHOUT).sort());
});

test('there is none of a code that nobody raises', () => {
  const text = readFileSync(join(ROOT, HINTS), 'utf8');
  const hinted = [...text.matchAll(/^ {2}(E_[A-Z0-9_]+):/gm)].map(([, code = '']) => code);
  assert.ok(hinted.length > 50);
  assert.equal(
    hinted.filter((code) => !raised.has(code)),
    [],
  );
});

test('a refused stream carries one to the operator, whatever is wrong with it', () => {
  for (const code of Object.keys(STREAM_ERRORS) as (keyof typeof STREAM_ERRORS)[]) {
    const failure = toFailure(new StreamError(code, 'seen', 7, 'ram PART'), { member: 'm0' });
    assert.equal([failure.code, failure.member], [code, 'm0']);
    assert.ok(failure.hint, code);
  }
});

test.run();
