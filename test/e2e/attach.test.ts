/**
 * VMs that Umbra did not start are attached as a cluster. They are found by their QMP sockets,
 * their command lines are read from the processes; they are checkpointed, killed, restored, and
 * `down` leaves them running.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type StartedVm, startVm } from '../../proxy/agent/vms/vm-process.ts';
import { parseClusterConfig } from '../../proxy/config/config.ts';
import { isAlive, killProcess } from '../../proxy/host/pid-file.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { ticker } from '../support/job.ts';
import { suite } from '../support/suite.ts';

const test = suite('attach');
let bed: Testbed;
let vms: StartedVm[] = [];

test.before(async () => {
  const [qemu] = await findQemus();
  bed = await Testbed.create({ nodes: 2, memoryMiB: 192, qemu });
  const { members } = parseClusterConfig(readFileSync(bed.file, 'utf8'), bed.file, bed.home);
  vms = await Promise.all(
    members.map(({ command = [], directory }) => {
      // In other places than Umbra would choose, and with relative paths.
      const own = directory.replace('/demo/vm/', '/elsewhere-');
      mkdirSync(own, { recursive: true });
      return startVm(
        command.map((word) => word.replaceAll(`${directory}/`, '')),
        own,
        own,
      );
    }),
  );
});

test.after(async () => {
  for (const { process } of vms) await killProcess(process);
  await bed.dispose();
});

const socket = (node: number) => join(bed.home, `elsewhere-n${node}`, 'qmp.sock');

test('a checkpoint of attached VMs brings them back as they were', async () => {
  const watched = (node: number) => join(bed.home, `elsewhere-n${node}`);
  bed.memberDirectory = watched;
  for (const node of [0, 1]) await (await bed.guest(node)).waitBoot();
  const before = [await ticker(bed, 0), await ticker(bed, 1)];

  // One VM keeps QEMU's name for it, the other gets a name here.
  const status = await bed.json<ClusterStatus>('attach', '-c', 'mine', socket(0), `b=${socket(1)}`);
  assert.equal(
    status.members.map(({ member, running, owned }) => [member, running, owned]),
    [
      ['n0', true, false],
      ['b', true, false],
    ],
  );
  await bed.json('checkpoint');
  bed.hangUp();
  for (const { process } of vms) await killProcess(process);
  await bed.json('restore');
  const after = [await ticker(bed, 0), await ticker(bed, 1)];
  assert.equal(
    after.map(({ nonce }) => nonce),
    before.map(({ nonce }) => nonce),
  );
  bed.hangUp();
});

test('down leaves VMs running that Umbra did not start', async () => {
  await bed.json('down', '-c', 'mine', '--purge');
  const process = await startVm(
    [
      'qemu-system-x86_64',
      '-nodefaults',
      '-display',
      'none',
      '-qmp',
      'unix:q.sock,server=on,wait=off',
    ],
    bed.home,
    bed.home,
  );
  vms.push(process);
  while ((await bed.umbra('attach', '-c', 'other', join(bed.home, 'q.sock'))).code !== 0);
  await bed.json('down', '-c', 'other', '--purge');
  assert.ok(isAlive(process.process));
});

test.run();
