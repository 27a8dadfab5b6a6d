/** `umbra relay --report`: what it tells of migrations is its owner's alone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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

/** Runs a command of ours. @returns its last line, parsed */
async function ask(...words: readonly string[]): Promise<Record<string, unknown>> {
  const child = spawn(process.execPath, [umbra.path, ...words, '--json'], { env: ownHome() });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await once(child, 'close');
  return JSON.parse(said.trim().split('\n').at(-1) ?? '');
}

function ownHome(): NodeJS.ProcessEnv {
  return { ...process.env, UMBRA_HOME: at('home') };
}

function writeRelay(rest: string, to = 'to'): void {
  const route = `{name: a, listen: 'unix://${at('in.sock')}', to: 'unix://${at(to)}.sock'}`;
  writeFileSync(at('relay.yaml'), `routes: [${route}]\n${rest}\n`);
}

test('reload: the relay takes up its file, says what has changed, keeps its routes', async () => {
  writeRelay('migrations: {atOnce: 1}');
  const words = [umbra.path, 'relay', at('relay.yaml'), '--json'];
  const child = spawn(process.execPath, words, { env: ownHome() });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const line = async () => JSON.parse((await lines.next()).value ?? '{}');
  try {
    assert.ok('listening' in (await line()));
    const change = { option: 'migrations.atOnce', before: '1', after: '2' };
    writeRelay('migrations: {atOnce: 2}');
    assert.equal(await ask('reload', at('relay.yaml')), { applied: [change] });
    assert.equal(await line(), { reloaded: [change] });
    const codeOf = ({ failure }: Record<string, unknown>) => (failure as { code: string }).code;
    writeRelay('stallLimit: 1min', 'elsewhere');
    assert.is(codeOf(await ask('reload', at('relay.yaml'))), 'E_RELOAD_FIXED');
    writeRelay('stallLimit: 1ms');
    assert.is(codeOf(await ask('reload', at('relay.yaml'))), 'E_CONFIG');
    child.kill('SIGHUP');
    assert.is(codeOf(await line()), 'E_CONFIG', 'it says so, and runs on');
    writeRelay('stallLimit: 1min');
    child.kill('SIGHUP');
    const { reloaded } = await line();
    assert.equal(
      reloaded.map(({ option }: typeof change) => option),
      ['migrations.atOnce', 'stallLimit'],
    );
    const { open } = lookAtTree(at('home'));
    assert.equal(open, [], 'its socket is its owner’s alone');
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  assert.equal(readdirSync(at('home/.relays')), []);
  assert.is(
    ((await ask('reload', at('relay.yaml'))).failure as { code: string }).code,
    'E_RELOAD_OFF',
  );
});

test.run();
