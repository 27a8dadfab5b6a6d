/**
 * Access of other users of the host to a running cluster: in the middle of a round, with an epoch,
 * and after a restore. Nothing listens but unix sockets; every file, folder and socket is
 * accessible to its owner only (proxy/THREATS.md).
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { lookAtTree } from '../support/closed-tree.ts';
import { freezeAt, frozenProcess } from '../support/freeze.ts';
import { suite } from '../support/suite.ts';

/** Options of setpriv that select another user. */
const OTHER_USER = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];

const test = suite('security');
let bed: Testbed;

test.before(async () => {
  bed = await Testbed.create({ nodes: 2, memoryMiB: 192, qemu: await newestQemu() });
  await bed.up();
});
test.after(() => bed.dispose());

/** Checks that all files of the cluster are closed to other users now. */
function requireClosed(when: string): void {
  const { folders, files, sockets, open } = lookAtTree(bed.directory);
  assert.equal(open, [], when);
  assert.ok(folders > 3 && files > 3 && sockets > 6, `${folders} ${files} ${sockets} ${when}`);
  assert.is(statSync(join(bed.directory, 'api.sock')).mode & 0o777, 0o600);
}

test('in the middle of a round, nothing is open to others', async () => {
  freezeAt(bed, 'member/n0/live');
  const round = bed.json<RoundReport>('checkpoint');
  const pid = await frozenProcess(bed);
  requireClosed('while a proxy takes its memory');
  process.kill(pid, 'SIGCONT');
  assert.is((await round).outcome, 'committed');
});

test('nor is an epoch, nor are files exported from it', async () => {
  requireClosed('with an epoch');
  const xml = join(bed.home, 'domain.xml');
  writeFileSync(xml, '<domain></domain>');
  const made = join(bed.home, 'made');
  const xmls = ['n0', 'n1'].flatMap((name) => ['--xml', `${name}=${xml}`]);
  await bed.json('export', '1', '--libvirt', made, ...xmls);
  assert.equal(lookAtTree(made).open, []);
  assert.is(lookAtTree(made).files, 2);
});

test('nor is a restored cluster', async () => {
  bed.killAll();
  await bed.json('restore');
  requireClosed('after a restore');
});

test('nothing of it listens on a network', () => {
  const pids = [...bed.processes().keys()];
  assert.ok(pids.length >= 6, 'daemon, switch, two proxies, two QEMUs');
  for (const pid of pids)
    assert.equal(listeningOn(pid), [], readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
});

test('a process that does listen on a network would have been found', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  assert.is(listeningOn(process.pid).length, 1);
  server.close();
});

if (process.geteuid?.() === 0) {
  test('another user can connect to none of its sockets, and read none of its files', () => {
    const { places, passed } = asOtherUser();
    assert.ok(places > 20);
    assert.equal(passed, []);
  });
}

/** Tries to open every path of the cluster as another user. */
function asOtherUser(): { places: number; passed: string[] } {
  const names = readdirSync(bed.directory, { recursive: true, encoding: 'utf8' });
  const paths = names.map((name) => join(bed.directory, name));
  const script = `
    const fs = require('fs'), net = require('net');
    for (const path of process.argv.slice(1)) {
      try { fs.closeSync(fs.openSync(path, 'r')); console.log(path); } catch {}
      const socket = net.connect(path, () => { console.log(path); socket.destroy(); });
      socket.on('error', () => {});
    }`;
  const words = [...OTHER_USER, process.execPath, '-e', script, ...paths];
  const { stdout, status } = spawnSync('setpriv', words, { encoding: 'utf8', cwd: '/' });
  assert.is(status, 0);
  return { places: paths.length, passed: stdout.split('\n').filter((line) => line !== '') };
}

/** Lists a process's listening TCP sockets and its UDP sockets, by address as in /proc/net. */
function listeningOn(pid: number): string[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return []; // closed meanwhile
      }
    }),
  );
  return ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((kind) => {
    const [, ...lines] = readFileSync(`/proc/${pid}/net/${kind}`, 'utf8').trim().split('\n');
    return lines.flatMap((line) => {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
      const counts = kind.startsWith('udp') || state === '0A';
      return counts && inodes.has(inode) ? [`${kind} ${local}`] : [];
    });
  });
}

test.run();
