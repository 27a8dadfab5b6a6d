/** Each rule of plain English finds what breaks it, and lets the rest pass. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkProse } from '../../../tools/lint/prose.ts';

const test = suite('prose');

/** Text, and the rules it breaks. */
const CASES: Readonly<Record<string, readonly [text: string, rules: readonly string[]]>> = {
  'a line of 100 columns': [`// ${'x'.repeat(97)}`, []],
  'a line of 101 columns': [`// ${'x'.repeat(98)}`, ['columns']],
  'a drawing counts by character': [`// ${'─'.repeat(97)}`, []],
  'a function that returns': ['/** Returns the path. */\nfunction a() {}', []],
  'a function without a verb': ['/** The path. */\nfunction a() {}', ['docstring']],
  'a plural is no verb': ['/** Bytes of it. */\nfunction a() {}', ['docstring']],
  'a method that begins with a tag': ['  /** @returns it */\n  run(): void {', ['docstring']],
  'a constructor with parameters': ['  /** @param now time */\n  constructor(now: number) {', []],
  'a value by a noun': ['/** The longest path. */\nconst A = 1;', []],
  'a value by a preposition': ['/** Of a path. */\nconst A = 1;', ['docstring']],
  'a type by a question': ['/** What it is. */\ninterface A {}', ['docstring']],
  'a process as a person': ['// whoever asks is told', ['persons']],
  'nobody as a process': ['// nobody listens', ['persons']],
  'nobody as the Unix user': ["// the user `nobody` owns it, or 'nobody'", []],
  'an array spread to save lines': ["const a = [...['x', 'y']];", ['spread']],
  'an object spread to save lines': ['const a = { ...{ b, c } };', ['spread']],
  'a condition spread': ['const a = { ...(b && { c }) };', []],
};

for (const [name, [text, rules]] of Object.entries(CASES)) {
  test(name, () => {
    assert.equal(
      checkProse(text).map(({ rule }) => rule),
      rules,
    );
  });
}

test('a finding says in which line it is', () => {
  const [finding] = checkProse('const a = 1;\n\n// somebody\n');
  assert.is(finding?.line, 3);
});

test.run();
