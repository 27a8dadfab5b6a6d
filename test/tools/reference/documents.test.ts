import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DOCUMENTS, withPart } from '../../../tools/reference/documents.ts';

const test = suite('documents');

for (const { file, marker, part } of DOCUMENTS) {
  test(`${file} is what its sources say`, () => {
    const text = readFileSync(fileURLToPath(new URL(`../../../${file}`, import.meta.url)), 'utf8');
    assert.is(text, withPart(text, marker, part()), 'it is stale: npm run reference');
  });
}

test('a part replaces what was between its markers, and nothing else', () => {
  const text = 'a\n<!-- x: how -->\nold\n<!-- /x -->\nb\n';
  const whole = 'a\n<!-- x: how -->\n\nnew $1\n\n<!-- /x -->\nb\n';
  assert.is(withPart(text, 'x', 'new $1'), whole);
  assert.is(withPart(whole, 'x', 'new $1'), whole);
  assert.throws(() => withPart(text, 'y', 'new'), /no markers y/);
});

test.run();
