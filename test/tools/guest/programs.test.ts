import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { guestSourceFolder } from '../../../tools/guest/sources.ts';
import { runCommand } from '../../../tools/packages/command.ts';
import { suite } from '../../support/suite.ts';
import { eventually } from '../../support/switch-peer.ts';

/** `dirty` needs no guest: the host runs it as well. */
const test = suite('dirty');
const folder = mkdtempSync(join(tmpdir(), 'umbra-dirty-'));
const program = join(folder, 'dirty');
let children: ChildProcess[] = [];

function start(...args: string[]): { child: ChildProcess; output: () => string } {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  children.push(child);
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  return { child, output: () => text };
}

test.before(async () => {
  const source = join(guestSourceFolder(), 'src', 'dirty.c');
  await runCommand('gcc', ['-std=gnu11', '-O2', '-static', '-o', program, source]);
});

test.after.each(() => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
});

test.after(() => rmSync(folder, { recursive: true, force: true }));

for (const pattern of ['sequential', 'random', 'burst']) {
  test(`${pattern}: verifies on SIGUSR1, goes on, verifies on SIGTERM`, async () => {
    const { child, output } = start('--size-mib', '2', '--pattern', pattern);
    await eventually(() => output().includes('dirty: ready, 512 pages\n'));
    child.kill('SIGUSR1');
    await eventually(() => /verified 512 pages, generation [0-9]+\n/.test(output()));
    const exit = once(child, 'close');
    child.kill('SIGTERM');
    assert.equal(await exit, [0, null]);
    assert.is(output().match(/verified 512 pages/g)?.length, 2);
  });
}

test('keeps to its rate', async () => {
  const { child, output } = start(...'--size-mib 1 --rate-mib 8 --seconds 2'.split(' '));
  await once(child, 'close');
  const [, generation] = /verified 256 pages, generation (\d+)\n/.exec(output()) ?? [];
  // 16 MiB over one of 1 MiB: the sixteenth generation, or the seventeenth has just begun.
  assert.ok(Number(generation) <= 17, 'it is never faster');
  assert.ok(Number(generation) >= 8, 'nor, but on a host without a core for it, much slower');
});

test('a page changed from outside is found', async () => {
  const { child, output } = start('--size-mib', '1', '--rate-mib', '1');
  await eventually(() => output().includes('ready'));
  await damagePage(child.pid ?? 0);
  const exit = once(child, 'close');
  child.kill('SIGUSR1');
  assert.equal(await exit, [1, null]);
  assert.match(output(), /^dirty: CORRUPT page 200: damaged/m);
});

test('refuses what it does not understand', async () => {
  for (const args of [
    ['--pattern', 'zigzag'],
    ['--size-mib', '1x'],
    ['--rate-mib', '-1'],
  ]) {
    const { child } = start(...args);
    assert.equal(await once(child, 'close'), [2, null], args.join(' '));
  }
});

/** Writes into the middle of page 200 of the program's memory while it is stopped. */
async function damagePage(pid: number): Promise<void> {
  const { open, readFile } = await import('node:fs/promises');
  process.kill(pid, 'SIGSTOP');
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8');
  const memory = await open(`/proc/${pid}/mem`, 'r+');
  try {
    for (const line of maps.split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *$/.exec(line) ?? [];
      if (from === undefined || to === undefined) continue;
      const start = Number.parseInt(from, 16);
      const block = Buffer.alloc(Number.parseInt(to, 16) - start);
      await memory.read(block, 0, block.length, start);
      const first = block.indexOf('um_dirty');
      const page = first + 200 * 4096;
      if (first === -1 || page >= block.length) continue;
      const word = Buffer.from(block.subarray(page + 2048, page + 2056).map((byte) => byte ^ 1));
      await memory.write(word, 0, word.length, start + page + 2048);
      return;
    }
    throw new Error('no pages of dirty in its memory');
  } finally {
    await memory.close();
    process.kill(pid, 'SIGCONT');
  }
}

test.run();
