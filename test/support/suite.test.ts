/** Suites whose `before` hook fails. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const folder = fileURLToPath(new URL('..', import.meta.url));

const test = suite('suites');

test('a before hook that fails says why, and its tests count as failed', () => {
  const code = `
    import { suite } from ${JSON.stringify(join(folder, 'support/suite.ts'))};
    const test = suite('doomed');
    test.before(() => { throw new Error('no guests today'); });
    test('never runs', () => {});
    test.run();`;
  const args = ['--import', 'tsx/esm', '--input-type=module', '--eval', code];
  const { stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: folder });
  assert.match(stdout, /FAIL doomed: its before hook failed/);
  assert.match(stdout, /no guests today/);
  assert.match(stdout, /Passed:\s+0/);
});

test('every suite with such a hook says why it fails', () => {
  const silent = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts') && file !== 'support/suite.test.ts')
    .filter((file) => {
      const text = readFileSync(join(folder, file), 'utf8');
      return /\.before\(/.test(text) && /\bsuite\b.* from 'uvu';/.test(text);
    });
  assert.equal(silent, [], "they import suite from 'uvu', not from test/support/suite.ts");
});

test.run();
