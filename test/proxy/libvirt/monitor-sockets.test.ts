import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { anotherMonitor } from '../../../proxy/command-line/monitors.ts';
import { monitorsOf } from '../../../proxy/libvirt/monitor-sockets.ts';
import { scratchFolder } from '../../support/scratch.ts';

const LIBVIRTS = ['-chardev', 'socket,id=charmonitor,fd=21,server=on,wait=off'];
const MON = ['-mon', 'chardev=charmonitor,id=monitor,mode=control'];

const test = suite('monitor sockets');

const CASES: readonly (readonly [what: string, more: string[], path: string | undefined])[] = [
  ['libvirt’s alone', [], undefined],
  ['-qmp', ['-qmp', 'unix:/run/a,,b.qmp,server=on,wait=off'], '/run/a,b.qmp'],
  ['-qmp over TCP', ['-qmp', 'tcp:127.0.0.1:4444,server=on'], undefined],
  [
    'a chardev',
    ['-chardev', 'socket,id=mon1,path=/run/m,server=on', '-mon', 'chardev=mon1,mode=control'],
    '/run/m',
  ],
  [
    'one for humans',
    ['-chardev', 'socket,id=mon1,path=/run/m,server=on', '-mon', 'chardev=mon1,mode=readline'],
    undefined,
  ],
];

for (const [what, more, path] of CASES) {
  test(`another monitor: ${what}`, () => {
    assert.is(anotherMonitor(['qemu', ...LIBVIRTS, ...MON, ...more, '-S']), path);
  });
}

test('libvirt’s own is found by its descriptor', async () => {
  const directory = mkdtempSync(join(scratchFolder(), 'umbra-mon-'));
  const path = join(directory, 'monitor.sock');
  const server = createServer().listen(path);
  try {
    await once(server, 'listening');
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
    const words = ['qemu', '-chardev', `socket,id=charmonitor,fd=${fd},server=on,wait=off`, ...MON];
    assert.is(monitorsOf({ pid: process.pid, commandLine: words }).libvirts, path);
    const none = ['qemu', '-chardev', 'socket,id=charmonitor,fd=9999,server=on', ...MON];
    assert.is(monitorsOf({ pid: process.pid, commandLine: none }).libvirts, undefined);
    const named = ['qemu', '-chardev', 'socket,id=charmonitor,path=/run/x,server=on', ...MON];
    assert.is(monitorsOf({ pid: process.pid, commandLine: named }).libvirts, '/run/x');
  } finally {
    server.close();
    rmSync(directory, { recursive: true, force: true });
  }
});

test.run();
