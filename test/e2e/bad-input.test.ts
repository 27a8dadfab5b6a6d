/**
 * Every error has a code and says what to do next, and it changes nothing: no VM is stopped, and no
 * process, socket or file is left behind.
 */
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { QmpClient } from '../../qmp/index.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess, VmWatch } from '../support/freeze.ts';
import { suite } from '../support/suite.ts';

const [system] = await findQemus();
const test = suite('bad input');
let bed: Testbed;
let pids: number[] = [];
let watches: VmWatch[] = [];

test.before(async () => {
  bed = await Testbed.create({ nodes: 2, memoryMiB: 192, qemu: system, watch: true });
  await bed.up();
  await bed.json('checkpoint');
  pids = [bed.pid(0), bed.pid(1)];
  watches = await Promise.all([VmWatch.open(bed, 0), VmWatch.open(bed, 1)]);
});
test.after(async () => {
  for (const watch of watches) watch.close();
  await bed.dispose();
});

interface State {
  readonly processes: readonly string[];
  readonly files: readonly string[];
}

function state(): State {
  return {
    processes: [...bed.processes().values()].filter((line) => !line.includes('esbuild')).sort(),
    files: readdirSync(bed.home, { recursive: true, encoding: 'utf8' }).sort(),
  };
}

/** Runs a command that must fail, and checks that it changed nothing. */
async function refused(code: string, ...args: readonly string[]): Promise<Failure> {
  const before = state();
  const end = await bed.umbra(...args, '--json');
  const said = end.stdout + end.stderr;
  assert.is(end.code, 1, said);
  const { failure } = JSON.parse(end.stdout.trim().split('\n').at(-1) ?? '{}') as {
    failure: Failure;
  };
  assert.is(failure?.code, code, said);
  assert.ok(failure.message.length > 10, 'it says what is wrong');
  assert.equal(state(), before, 'nothing was left or lost');
  for (const watch of watches) assert.ok(await watch.isRunning(), 'no VM was stopped');
  assert.equal([bed.pid(0), bed.pid(1)], pids);
  return failure;
}

function config(name: string, text: string): string {
  const file = join('/dev/shm', `${name}-${process.pid}.yaml`);
  writeFileSync(file, text);
  return file;
}

async function refusedConfig(code: string, text: string): Promise<Failure> {
  const file = config('umbra-bad', text);
  try {
    return await refused(code, 'up', file);
  } finally {
    rmSync(file);
  }
}

test('a wrong config names every problem by its path', async () => {
  const text = 'cluster: a/b\nmembers:\n  - name: x\nround: {stopDeadline: soon}\n';
  const { message, hint } = await refusedConfig('E_CONFIG', text);
  for (const path of ['cluster:', 'round.stopDeadline:']) assert.match(message, path);
  assert.match(hint ?? '', 'nothing was started');
});

test('a config file that is not there', async () => {
  await refused('E_CONFIG_FILE', 'up', '/nowhere/cluster.yaml');
});

test('a cluster name with a slash', async () => {
  await refused('E_CONFIG', 'status', '--cluster', '../demo');
});

test('an unknown cluster', async () => {
  const { message } = await refused('E_CLUSTER_UNKNOWN', 'checkpoint', '--cluster', 'other');
  assert.match(message, 'there are: demo');
});

test('an unknown epoch', async () => {
  const { message, hint } = await refused('E_EPOCH_UNKNOWN', 'restore', '9');
  assert.match(message, 'there are: 1');
  assert.match(hint ?? '', 'umbra epochs');
  await refused('E_EPOCH_UNKNOWN', 'rm', '9');
  await refused('E_EPOCH_UNKNOWN', 'verify', '9');
});

test('a usage error has a status of its own', async () => {
  for (const args of [['restore', 'newest'], ['restore', '--mode', 'magic'], ['frobnicate']]) {
    assert.is((await bed.umbra(...args)).code, 2, args.join(' '));
  }
});

test('restoring over VMs that run', async () => {
  const { hint } = await refused('E_MEMBERS_RUNNING', 'restore');
  assert.match(hint ?? '', '--replace');
});

test('another config under the name of a cluster that runs', async () => {
  const member = "{name: n0, command: ['true', -qmp, 'unix:{dir}/q.sock,server=on,wait=off']}";
  await refusedConfig('E_CLUSTER_EXISTS', `{cluster: demo, members: [${member}]}`);
});

test('a VM that does not start: the cluster leaves nothing', async () => {
  const command = "[/bin/false, -qmp, 'unix:{dir}/q.sock,server=on,wait=off']";
  await refusedConfig('E_VM_START', `{cluster: dead, members: [{name: a, command: ${command}}]}`);
  const missing = "[/no/such/qemu, -qmp, 'unix:{dir}/q.sock,server=on,wait=off']";
  await refusedConfig('E_VM_START', `{cluster: dead, members: [{name: a, command: ${missing}}]}`);
});

test('a socket that is not there, and one that is not QMP', async () => {
  await refused('E_VM_NOT_FOUND', 'attach', '--cluster', 'wrong', '/nowhere/qmp.sock');
  const path = `/dev/shm/umbra-not-qmp-${process.pid}.sock`;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end('220 smtp.example.org ready\r\n');
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    await refused('E_QMP_FRAME', 'attach', '--cluster', 'wrong', path);
  } finally {
    server.close();
  }
});

/** Uses n0's second monitor, after the test's watch has closed it. */
async function withMonitor(use: (qmp: QmpClient) => Promise<void>): Promise<void> {
  watches[0]?.close();
  const qmp = await QmpClient.connect(join(bed.memberDirectory(0), 'watch.sock'));
  watches = watches.slice(1);
  try {
    await use(qmp);
  } finally {
    qmp.close();
    watches = [await VmWatch.open(bed, 0), ...watches];
  }
}

const BLOCKERS = [
  [
    'a device that may not migrate',
    '-device',
    'nvme,drive=d,serial=x',
    '-drive',
    'if=none,id=d,driver=null-co,read-zeroes=on',
  ],
  [
    'a share with another process',
    '-device',
    'ivshmem-plain,memdev=m',
    '-object',
    'memory-backend-ram,id=m,size=1M,share=on',
  ],
] as const;

for (const [what, ...words] of BLOCKERS) {
  test(`a VM with a migration blocker (${what})`, async () => {
    const own = 'unix:{dir}/qmp.sock,server=on,wait=off';
    const machine = ['-nodefaults', '-machine', 'pc', '-accel', 'tcg', '-m', '64'];
    const command = ['qemu-system-x86_64', ...machine, '-display', 'none', '-qmp', own, ...words];
    const file = config(
      'umbra-blocked',
      JSON.stringify({ cluster: 'blocked', members: [{ name: 'a', command }] }),
    );
    try {
      await bed.json('up', file);
      const end = await bed.umbra('checkpoint', '--cluster', 'blocked', '--json');
      assert.is(end.code, 1);
      const { failure } = JSON.parse(end.stdout) as { failure: Failure };
      assert.is(failure.code, 'E_VM_BLOCKED');
      assert.is(failure.member, 'a');
      const { members } = await bed.json<ClusterStatus>('status', '--cluster', 'blocked');
      assert.ok(members[0]?.running);
    } finally {
      await bed.json('down', '--cluster', 'blocked', '--purge');
      rmSync(file);
    }
  });
}

test('a writable disk is no part of an epoch: the checkpoint says so', async () => {
  const own = 'unix:{dir}/qmp.sock,server=on,wait=off';
  const machine = [
    '-nodefaults',
    '-machine',
    'pc',
    '-accel',
    'tcg',
    '-m',
    '64',
    '-display',
    'none',
  ];
  const disk = [
    '-drive',
    'if=none,id=data,driver=null-co,read-zeroes=on',
    '-device',
    'virtio-blk-pci,drive=data',
  ];
  const command = ['qemu-system-x86_64', ...machine, '-qmp', own, ...disk];
  const file = config(
    'umbra-disk',
    JSON.stringify({ cluster: 'disk', members: [{ name: 'a', command }] }),
  );
  try {
    await bed.json('up', file);
    const { code, stdout } = await bed.umbra('checkpoint', '--cluster', 'disk');
    assert.is(code, 0);
    assert.match(stdout, /WARNING a: .*data/);
  } finally {
    await bed.json('down', '--cluster', 'disk', '--purge');
    rmSync(file);
  }
});

test('a VM that its operator has paused stays paused', async () => {
  await withMonitor(async (qmp) => {
    await qmp.execute('stop');
    const failure = await refused('E_VM_NOT_RUNNING', 'checkpoint');
    assert.is(failure.member, 'n0');
    assert.not((await qmp.execute('query-status')).running);
    await qmp.execute('cont');
  });
});

test('a VM that migrates already goes on with it', async () => {
  await withMonitor(async (qmp) => {
    // The destination accepts the connection and reads nothing: the migration never ends.
    const path = `/dev/shm/umbra-elsewhere-${process.pid}.sock`;
    const destination = createServer((socket) => socket.pause().on('error', () => {}));
    await new Promise<void>((resolve) => destination.listen(path, resolve));
    try {
      await qmp.execute('migrate', { uri: `unix:${path}` });
      const failure = await refused('E_VM_MIGRATING', 'checkpoint');
      assert.is(failure.member, 'n0');
      const { status } = await qmp.execute('query-migrate');
      assert.is(status, 'active', 'the other migration was left alone');
    } finally {
      await qmp.execute('migrate_cancel');
      destination.close();
      while ((await qmp.execute('query-migrate')).status !== 'cancelled') await delay(20);
    }
  });
});

test('an operator’s migration settings are put back after a round', async () => {
  const settings = async (qmp: QmpClient) => ({
    parameters: await qmp.execute('query-migrate-parameters'),
    capabilities: await qmp.execute('query-migrate-capabilities'),
  });
  await withMonitor(async (qmp) => {
    const mine = { capability: 'pause-before-switchover', state: true };
    await qmp.execute('migrate-set-capabilities', { capabilities: [mine] });
    await qmp.execute('migrate-set-parameters', { 'downtime-limit': 123 });
    const before = await settings(qmp);
    await bed.json('checkpoint');
    assert.equal(await settings(qmp), before);
    const capabilities = [{ ...mine, state: false }];
    await qmp.execute('migrate-set-capabilities', { capabilities });
  });
});

test('a VM its operator pauses in the middle of a round stays paused', async () => {
  await withMonitor(async (qmp) => {
    freezeAt(bed, 'member/n1/live');
    const command = bed.umbra('checkpoint', '--json');
    const frozen = await frozenProcess(bed);
    await qmp.execute('stop');
    process.kill(frozen, 'SIGCONT');
    const { code, stdout } = await command;
    assert.is(code, 1);
    assert.match(stdout, 'E_VM_PAUSED');
    assert.not((await qmp.execute('query-status')).running, 'it is left as its operator wants it');
    await qmp.execute('cont');
  });
});

test('many commands at once start one daemon', async () => {
  await endDaemon();
  const ends = await Promise.all([1, 2, 3].map(() => bed.umbra('epochs', '--json')));
  for (const { code, stdout, stderr } of ends) assert.is(code, 0, stdout + stderr);
  const daemons = [...bed.processes().values()].filter((line) => line.includes(' serve '));
  assert.is(daemons.length, 1);
});

test('everything told to end in the middle of a round: every VM runs', async () => {
  freezeAt(bed, 'member/n1/stopped');
  const command = bed.umbra('checkpoint', '--json');
  const frozen = await frozenProcess(bed);
  for (const [pid, line] of bed.processes()) {
    if (/ serve |member.process/.test(line)) process.kill(pid, 'SIGTERM');
  }
  process.kill(frozen, 'SIGCONT');
  assert.is((await command).code, 1);
  for (const watch of watches) await watch.running(60_000);
  await bed.json('epochs');
});

test('two rounds at once: the second is told to wait', async () => {
  // else the frozen proxy would be given up
  await bed.reconfigure({ round: { stopDeadline: '2min' } });
  freezeAt(bed, 'member/n1/live');
  const first = bed.umbra('checkpoint', '--json');
  const frozen = await frozenProcess(bed);
  const second = await bed.umbra('checkpoint', '--json');
  process.kill(frozen, 'SIGCONT');
  assert.is(second.code, 1);
  assert.match(second.stdout, 'E_ROUND_BUSY');
  assert.is((await first).code, 0);
  await bed.reconfigure({});
});

test('damage is found at restore, and the epoch before it is offered', async () => {
  const catalogue = join(bed.directory, 'epochs');
  const [previous, newest] = readdirSync(catalogue).sort().slice(-2);
  const { body } = JSON.parse(readFileSync(join(catalogue, newest ?? ''), 'utf8'));
  const image = join(bed.directory, 'shadows', body.round, 'n1', 'ram-0.delta');
  const whole = readFileSync(image);
  const rotten = Buffer.from(whole);
  const at = rotten.length >> 1;
  rotten[at] = (rotten[at] ?? 0) ^ 1;
  chmodSync(image, 0o600);
  writeFileSync(image, rotten);
  const failure = await refused('E_EPOCH_CORRUPT', 'restore', '--replace');
  assert.is(failure.member, 'n1');
  assert.match(failure.hint ?? '', `umbra restore ${Number.parseInt(previous ?? '', 10)}`);
  await refused('E_EPOCH_CORRUPT', 'verify', String(body.epoch));
  writeFileSync(image, whole);
  await bed.json('verify', String(body.epoch));
});

test('an epoch of another machine type', async () => {
  const stored = join(bed.directory, 'cluster.json');
  const original = readFileSync(stored, 'utf8');
  const changed = original.replaceAll('pc-i440fx-7.2', 'q35');
  assert.is.not(changed, original);
  writeFileSync(stored, changed);
  await endDaemon();
  try {
    await bed.umbra('epochs'); // starts a daemon with the changed config
    const { message } = await refused('E_MACHINE_TYPE', 'restore', '--replace');
    assert.match(message, 'pc-i440fx-7.2');
  } finally {
    writeFileSync(stored, original);
    await endDaemon();
    await bed.umbra('epochs');
  }
});

test('no room: refused with the missing bytes, before anything is changed', async () => {
  const stored = join(bed.directory, 'cluster.json');
  const original = readFileSync(stored, 'utf8');
  const { file, text } = JSON.parse(original) as { file: string; text: string };
  writeFileSync(stored, JSON.stringify({ file, text: `${text}store: {headroom: 100TiB}\n` }));
  await endDaemon();
  try {
    await bed.umbra('epochs');
    const { message, hint } = await refused('E_STORE_NO_ROOM', 'checkpoint');
    assert.match(message, /\d+ bytes are missing/);
    assert.match(hint ?? '', 'umbra rm');
  } finally {
    writeFileSync(stored, original);
    await endDaemon();
    await bed.umbra('epochs');
  }
});

async function endDaemon(): Promise<void> {
  const [pid] = [...bed.processes()].find(([, line]) => line.includes(' serve ')) ?? [];
  if (pid === undefined) return;
  process.kill(pid, 'SIGTERM');
  while (bed.processes().has(pid)) await delay(20);
}

test('guest memory can be read by its owner only', () => {
  const open: string[] = [];
  for (const name of readdirSync(bed.directory, { recursive: true, encoding: 'utf8' })) {
    const path = join(bed.directory, name);
    const { mode } = statSync(path);
    if ((mode & 0o077) !== 0 && /\.(img|delta|idx|bin|json|log)$|api\.sock$/.test(name)) {
      if (!name.endsWith('console.log')) open.push(`${name} ${(mode & 0o777).toString(8)}`);
    }
  }
  assert.equal(open, []);
  assert.is(statSync(bed.directory).mode & 0o777, 0o700);
});

test.run();
