/** The banned homonyms are found, and the house has none. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BANNED, checkGlossary } from '../../../tools/lint/glossary.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const AREAS = ['proxy', 'qmp', 'shadow', 'policies', 'tools', 'test'];
/** Files that hold the words as data. */
const DATA = /(^|\/)lint\/|\/corpus\//;

const EXAMPLES = [
  'RoundTerms',
  'MemberPlace',
  'RestoreSpelling',
  'DiskKeeper',
  'PrecopyDrive',
  'lookUp',
  'learnMachines(',
  'putRight',
  'ProxyKeeper',
  'switchCard',
  'canHold',
  'heldBytes',
  "'all stopped'",
  "'let go'",
];

const test = suite('glossary');

for (const [index, { instead }] of BANNED.entries()) {
  const example = EXAMPLES[index] ?? '';
  test(`${example} is banned: ${instead}`, () => {
    const [finding] = checkGlossary('proxy/example.ts', `const a = 1;\n${example}`);
    assert.is(finding?.rule, 'glossary');
    assert.is(finding?.line, 2);
  });
}

test('every banned word has an example', () => {
  assert.is(EXAMPLES.length, BANNED.length);
});

test('a word is free where it is the field’s own', () => {
  assert.equal(checkGlossary('proxy/command-line/clone.ts', 'isWritableDrive'), []);
  assert.equal(checkGlossary('proxy/switch/fabric.ts', 'this.#learn(address)'), []);
});

test('no file of the house has a banned word', () => {
  const files = AREAS.flatMap((area) =>
    readdirSync(join(ROOT, area), { recursive: true, encoding: 'utf8' })
      .map((file) => join(area, file))
      .filter((file) => file.endsWith('.ts') && !DATA.test(file)),
  );
  assert.ok(files.length > 400);
  const found = files.flatMap((file) =>
    checkGlossary(file, readFileSync(join(ROOT, file), 'utf8')).map(
      ({ line, message }) => `${file}:${line} ${message}`,
    ),
  );
  assert.equal(found, []);
});

test.run();
