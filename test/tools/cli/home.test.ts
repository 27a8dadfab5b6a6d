/** The umbra command with an unsafe home, an endless file, and names that lead elsewhere. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import type { Failure } from '../../../proxy/failure/failure.ts';
import { type Bundled, bundled } from '../../support/bundled.ts';
import { scratchFolder } from '../../support/scratch.ts';
import { suite } from '../../support/suite.ts';

const MAIN = fileURLToPath(new URL('../../../tools/cli/main.ts', import.meta.url));
const test = suite('home');
let home = '';
let umbra: Bundled;

test.before(async () => {
  umbra = await bundled(MAIN);
});
test.after(() => umbra.remove());

test.before.each(() => {
  home = mkdtempSync(join(scratchFolder(), 'umbra-home-'));
});
test.after.each(() => rmSync(home, { recursive: true, force: true }));

/** Returns the code with which the command fails. */
function failureOf(...words: string[]): string {
  const env = { ...process.env, UMBRA_HOME: home };
  const command = [umbra.path, ...words, '--json'];
  const { status, stdout } = spawnSync(process.execPath, command, { encoding: 'utf8', env });
  assert.is(status, 1, stdout);
  return (JSON.parse(stdout) as { failure: Failure }).failure.code;
}

test('a config that other users may have put there is not used', () => {
  mkdirSync(join(home, 'demo'));
  const witness = join(home, 'ran');
  const member = `{name: a, qmp: /x, command: [touch, ${witness}]}`;
  const stored = { file: '/etc/c', text: `{cluster: demo, members: [${member}]}` };
  writeFileSync(join(home, 'demo/cluster.json'), JSON.stringify(stored));
  chmodSync(home, 0o777);
  for (const words of [['up', '-c', 'demo'], ['status']]) {
    assert.is(failureOf(...words), 'E_FOLDER_UNSAFE', words.join(' '));
  }
  assert.equal(readdirSync(home), ['demo']);
});

test('a cluster’s folder that was opened is not used', () => {
  mkdirSync(join(home, 'demo'));
  chmodSync(join(home, 'demo'), 0o755);
  const file = join(home, 'cluster.yaml');
  writeFileSync(file, '{cluster: demo, members: [{name: a, qmp: /x}]}');
  assert.is(failureOf('up', file), 'E_FOLDER_UNSAFE');
});

test('a file that never ends is an error like any other', () => {
  assert.is(failureOf('up', '/dev/zero'), 'E_CONFIG');
});

test('a name that leads elsewhere is refused', () => {
  assert.is(failureOf('status', '-c', '../demo'), 'E_CONFIG');
});

test.run();
