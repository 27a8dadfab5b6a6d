import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { guestSourceFolder } from '../../../tools/guest/sources.ts';
import { runCommand } from '../../../tools/packages/command.ts';
import { decodeMeshPage, type MeshCounts, orphans, parseMeshShow } from '../../support/mesh.ts';
import { suite } from '../../support/suite.ts';
import { eventually } from '../../support/switch-peer.ts';

/** `mesh` needs no guests: the host has 127.0.0.1, 127.0.0.2 and 127.0.0.3. */
const test = suite('mesh');
const NODES = 3;
const PORT = 20_000 + (process.pid % 10_000);
const folder = mkdtempSync(join(tmpdir(), 'umbra-mesh-'));
const program = join(folder, 'mesh');
const pageOf = (node: number) => join(folder, `page-${node}`);
const children: ChildProcess[] = [];

function start(node: number): { child: ChildProcess; errors: () => string } {
  const options = `--node ${node} --nodes ${NODES} --port ${PORT} --first 127.0.0.1`.split(' ');
  const child = spawn(program, [...options, '--page', pageOf(node)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  children.push(child);
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  return { child, errors: () => text };
}

function counts(node: number): MeshCounts | undefined {
  return existsSync(pageOf(node)) ? decodeMeshPage(readFileSync(pageOf(node))) : undefined;
}

function hasHeard(node: number, number: number): boolean {
  const peers = counts(node)?.peers ?? [];
  const heard = ({ received }: { received: { tcp: number; udp: number } }) =>
    received.tcp >= number && received.udp >= number;
  return peers.length === NODES && peers.every((one, peer) => peer === node || heard(one));
}

test.before(async () => {
  const source = join(guestSourceFolder(), 'src', 'mesh.c');
  await runCommand('gcc', ['-std=gnu11', '-O2', '-static', '-o', program, source]);
});

test.after.each(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const exit = once(child, 'close'); // the next test wants its port
    child.kill('SIGKILL');
    await exit;
  }
});

test.after(() => rmSync(folder, { recursive: true, force: true }));

test('each node receives from each, and stopped nodes are consistent', async () => {
  const all = [0, 1, 2].map(start);
  await eventually(() => [0, 1, 2].every((node) => hasHeard(node, 50)));
  for (const { child } of all) child.kill('SIGSTOP');
  const told = [0, 1, 2].map((node) => counts(node) as MeshCounts);
  assert.equal(orphans(told), []);
  const shown = await runCommand(program, ['show', pageOf(1)]);
  assert.equal(parseMeshShow(shown, 1, NODES).peers[2], told[1]?.peers[2]);
  assert.is(all.map(({ errors }) => errors()).join(''), '');
});

test('a broken connection ends it', async () => {
  const [first, second] = [0, 1, 2].map(start);
  await eventually(() => [0, 1, 2].every((node) => hasHeard(node, 1)));
  const exit = once(first?.child as ChildProcess, 'close');
  second?.child.kill('SIGKILL');
  assert.equal(await exit, [1, null]);
  assert.match(first?.errors() ?? '', /^mesh: n[12]: /);
});

test('refuses what it does not understand', async () => {
  for (const args of [
    ['--nodes', '1'],
    ['--node', '3', '--nodes', '3'],
    ['--first', 'n0'],
  ]) {
    const child = spawn(program, args, { stdio: 'ignore' });
    assert.equal(await once(child, 'close'), [2, null], args.join(' '));
  }
});

test.run();
