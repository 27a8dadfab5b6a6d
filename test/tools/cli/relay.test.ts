/** `umbra relay --report`: what it tells of migrations is its owner's alone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { type Bundled, bundled } from '../../support/bundled.ts';
import { lookAtTree } from '../../support/closed-tree.ts';
import { scratchFolder } from '../../support/scratch.ts';
import { suite } from '../../support/suite.ts';

const MAIN = fileURLToPath(new URL('../../../tools/cli/main.ts', import.meta.url));
const test = suite('relay command');
let folder = '';
let umbra: Bundled;

test.before(async () => {
  umbra = await bundled(MAIN);
});
test.after(() => umbra.remove());

test.before.each(() => {
  folder = mkdtempSync(join(scratchFolder(), 'umbra-relay-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string): string => join(folder, name);

function start() {
  const places = ['--listen', `unix://${at('in.sock')}`, '--to', `unix://${at('to.sock')}`];
  const words = [umbra.path, 'relay', ...places, '--report', at('reports'), '--json'];
  const child = spawn(process.execPath, words);
  return { child, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
}

test('only their owner can read reports, whatever the umask', async () => {
  const destination = createServer((socket) => socket.resume().once('end', () => socket.end()));
  destination.listen(at('to.sock'));
  const before = process.umask(0);
  const { child, lines } = start();
  process.umask(before);
  try {
    assert.match((await lines.next()).value, /"listening"/);
    connect(at('in.sock'))
      .on('error', () => {})
      .end('QEVM, and no more');
    while (!/"outcome"/.test((await lines.next()).value ?? '"outcome"'));
    const { files, open } = lookAtTree(at('reports'));
    assert.is(files, 1);
    assert.equal(open, []);
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
    destination.close();
  }
});

test('no report is written to a folder that others may write to', async () => {
  mkdirSync(at('reports'));
  chmodSync(at('reports'), 0o777);
  const { child, lines } = start();
  assert.match((await lines.next()).value, /"code":"E_FOLDER_UNSAFE"/);
  await once(child, 'exit');
  assert.is(child.exitCode, 1);
});

test.run();
