/**
 * A clone: a second cluster from an epoch of one that runs on, with the same guests and addresses
 * on a network of its own. Both finish their job, and the clone has its own epochs. After the
 * clone's end, or if cloning failed, nothing of it is left and the first cluster is unchanged.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { endMemory } from '../../tools/testbed/dirty.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed, umbraCommand } from '../../tools/testbed/testbed.ts';
import { CloneGuests } from '../support/clone-guests.ts';
import { freezeAt, frozenProcess } from '../support/freeze.ts';
import {
  endJob,
  type Guests,
  isJobRunning,
  jobRuns,
  startJob,
  type Ticker,
  tickers,
} from '../support/job.ts';
import { suite } from '../support/suite.ts';

const JOB = { cases: 10, order: 400 };
const SETTLE_LIMIT_MS = 180_000;
const FIRST = ['-c', 'demo'];
const TWIN = ['-c', 'twin'];
/**
 * Settings of a round that stays in its live phase while a proxy is frozen, without a time limit.
 */
const LONG_ROUND = { maxLive: '10min', memoryBound: 50, stopDeadline: '10min' };
/** Value of `foldAt` at which nothing is folded, so that folders change only by commands. */
const NEVER = 100;
const ORDERS = [
  [2, 0, 1],
  [1, 2, 0],
] as const;

const test = suite('clone');
let bed: Testbed;
let twin: CloneGuests;
let pids: number[] = [];

test.before(async () => {
  const settings = { store: { foldAt: NEVER }, epochs: { keep: 2 } };
  bed = await Testbed.create({ nodes: 2, memoryMiB: 192, qemu: await newestQemu(), settings });
  twin = new CloneGuests(bed, 'twin');
  await bed.up();
  pids = [bed.pid(0), bed.pid(1)];
});
test.after(async () => {
  twin.hangUp();
  await bed.umbra('down', ...TWIN, '--purge');
  await bed.dispose();
});

/** Checks that the first cluster is unchanged: the same VMs, running. */
async function firstIsUntouched(): Promise<void> {
  const { members } = await bed.json<ClusterStatus>('status', ...FIRST);
  assert.equal(
    members.map(({ pid }) => pid),
    pids,
  );
  assert.ok(members.every(({ running }) => running));
}

async function purgeTwin(): Promise<void> {
  twin.hangUp();
  await bed.json('down', ...TWIN, '--purge');
  assert.equal(await settled(), [], 'nothing of the clone is left');
}

/** Lists what is left of the clone, after its last process has had a moment to end. */
async function settled(): Promise<string[]> {
  for (const end = performance.now() + SETTLE_LIMIT_MS; performance.now() < end; await delay(20)) {
    if (twin.traces().length === 0) break;
  }
  return twin.traces();
}

function nonces(all: readonly Ticker[]): string[] {
  return all.map(({ nonce }) => nonce);
}

test('both clusters finish the job, starting from the same nonce', async () => {
  await startJob(bed, JOB);
  await jobRuns(bed, 2);
  const before = await tickers(bed);
  const { epoch } = await bed.json<RoundReport>('checkpoint', ...FIRST);
  const clone = await bed.json<RestoreReport>('restore', String(epoch), '--as', 'twin', ...FIRST);
  assert.ok(clone.members.every(({ mode }) => mode === 'map'));
  process.stdout.write(`  a clone of 2 VMs after ${clone.durationMs.toFixed(0)} ms\n`);

  const cloned = await tickers(twin);
  assert.equal(nonces(cloned), nonces(before));
  assert.equal(nonces(await tickers(bed)), nonces(before));
  for (const [node, { ticks }] of before.entries()) {
    assert.ok((cloned[node]?.ticks ?? 0) > ticks, `n${node} was continued`);
  }
  // They are separate machines: a change in one does not show in the other.
  await twin.shell(1, 'touch /run/only-here');
  assert.is((await (await bed.guest(1)).run('test -e /run/only-here')).exitCode, 1);
  assert.ok((await isJobRunning(bed)) && (await isJobRunning(twin)), 'both are in mid-job');
  for (const guests of [bed, twin]) {
    const verdict = await endJob(guests);
    assert.is(verdict.code, 0, verdict.output);
  }
  await firstIsUntouched();
});

test('a clone is a cluster: it is checkpointed, killed, restored', async () => {
  const status = await bed.json<ClusterStatus>('status', ...TWIN);
  assert.equal(status.epochs, [], 'it begins with no epochs');
  const before = await tickers(twin);
  const { epoch } = await bed.json<RoundReport>('checkpoint', ...TWIN);
  assert.is(epoch, 1);
  twin.killAll();
  await bed.json('restore', ...TWIN);
  const after = await tickers(twin);
  assert.equal(nonces(after), nonces(before));
  assert.ok(after.every(({ ticks }, node) => ticks > (before[node]?.ticks ?? 0)));
  await twin.shell(0, 'ping -c 1 -W 5 n1');
  await firstIsUntouched();
});

test('down --purge of the clone leaves nothing of it, and the first runs', async () => {
  await purgeTwin();
  assert.equal(readdirSync(bed.home).sort(), ['cluster.yaml', 'demo']);
  await firstIsUntouched();
});

test('a clone keeps its memory when the epoch is removed and its memory reused', async () => {
  await bed.dirty(1, { sizeMiB: 64, rateMiB: 5 });
  const { epoch } = await bed.json<RoundReport>('checkpoint', ...FIRST);
  await bed.json('restore', String(epoch), '--as', 'twin', '--mode', 'map', ...FIRST);
  for (let count = 0; count < 4; count++) await bed.json('checkpoint', ...FIRST);
  const { epochs } = await bed.json<{ epochs: { epoch: number }[] }>('epochs', ...FIRST);
  assert.not(
    epochs.some((one) => one.epoch === epoch),
    'the epoch is gone',
  );
  for (const guests of [twin, bed]) assert.match(await guests.shell(1, endMemory()), /verified/);
  await purgeTwin();
});

async function refused(code: string, ...args: readonly string[]): Promise<Failure> {
  const before = readdirSync(bed.home, { recursive: true, encoding: 'utf8' }).sort();
  const { code: status, stdout, stderr } = await bed.umbra(...args, '--json');
  assert.is(status, 1, stdout + stderr);
  const { failure } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure };
  assert.is(failure.code, code, failure.message);
  assert.equal(await settled(), []);
  const after = readdirSync(bed.home, { recursive: true, encoding: 'utf8' }).sort();
  assert.equal(after, before, 'nothing was left or lost');
  await firstIsUntouched();
  return failure;
}

test('a clone that is impossible is refused, and changes nothing', async () => {
  await refused('E_CLUSTER_EXISTS', 'restore', '--as', 'demo', ...FIRST);
  await refused('E_CONFIG', 'restore', '--as', '../twin', ...FIRST);
  await refused('E_EPOCH_UNKNOWN', 'restore', '999', '--as', 'twin', ...FIRST);
  for (const args of [['--disconnect'], ['--as', 'twin', '--replace']]) {
    assert.is((await bed.umbra('restore', ...FIRST, ...args)).code, 2, args.join(' '));
  }
});

test('two clones of one name: the first gets it', async () => {
  const args = ['restore', '--as', 'twin', '--mode', 'stream', '--verify', '--json', ...FIRST];
  const clone = () => bed.umbra(...args);
  const ends = await Promise.all([clone(), clone()]);
  assert.equal(ends.map(({ code }) => code).sort(), [0, 1]);
  assert.match(ends.find(({ code }) => code === 1)?.stdout ?? '', 'E_CLUSTER_EXISTS');
  const { members } = await bed.json<ClusterStatus>('status', ...TWIN);
  assert.ok(members.every(({ running }) => running));
  await purgeTwin();
});

/** Starts a clone that freezes when all VMs are loaded and none runs yet. */
async function halfMade(): Promise<{
  frozen: number;
  command: ChildProcess;
  end: Promise<string>;
}> {
  freezeAt(bed, 'restore/loaded');
  const [program, ...words] = umbraCommand();
  const env = { ...process.env, UMBRA_HOME: bed.home, UMBRA_STOP_AT: bed.stopAt };
  const args = [...words, 'restore', '--as', 'twin', '--json', ...FIRST];
  const command = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  command.stdout?.on('data', (text) => {
    said += text;
  });
  const end = new Promise<string>((resolve) => command.once('close', () => resolve(said)));
  const frozen = await frozenProcess(bed);
  assert.ok(
    twin.traces().some((line) => line.includes('qemu')),
    'VMs are there',
  );
  return { frozen, command, end };
}

const daemonOf = (cluster: string) =>
  [...bed.processes()].find(([, line]) => line.includes(` serve --cluster ${cluster}`))?.[0] ?? 0;

test('its daemon is killed in the middle: nothing of the clone is left', async () => {
  const { frozen, end } = await halfMade();
  assert.is(frozen, daemonOf('twin'));
  process.kill(frozen, 'SIGKILL');
  assert.match(await end, 'E_DAEMON_LOST');
  assert.equal(await settled(), []);
  await firstIsUntouched();
});

test('the operator interrupts it: nothing of the clone is left', async () => {
  const { frozen, command, end } = await halfMade();
  command.kill('SIGINT');
  process.kill(frozen, 'SIGCONT');
  assert.match(await end, 'E_CLONE_INTERRUPTED');
  assert.equal(await settled(), []);
  await firstIsUntouched();
});

test('the first cluster’s daemon is killed in the middle: loaded VMs never run', async () => {
  const { frozen, end } = await halfMade();
  const daemon = daemonOf('demo');
  process.kill(daemon, 'SIGKILL');
  while (bed.processes().has(daemon)) await delay(10);
  process.kill(frozen, 'SIGCONT');
  assert.match(await end, 'E_CLONE_SOURCE');
  assert.equal(await settled(), []);
  await bed.json('epochs', ...FIRST); // starts it again
  await firstIsUntouched();
});

const CARD = ['-device', 'virtio-net-pci,netdev=lan,romfile='];
const NETWORKS = [
  ['user', 'user,id=lan,hostfwd=tcp:127.0.0.1:47022-:22'],
  ['socket', 'socket,id=lan,listen=127.0.0.1:47023'],
] as const;

for (const [what, netdev] of NETWORKS) {
  test(`a network outside the cluster (${what}) is refused by name, or unplugged`, async () => {
    await withOther(['-netdev', netdev, ...CARD], async () => {
      const failure = await refused('E_CLONE_NETWORK', 'restore', '--as', 'twin', '-c', 'other');
      assert.is(failure.member, 'a');
      assert.match(failure.message, `-netdev ${netdev}`);
      assert.match(failure.hint ?? '', '--disconnect');
      await bed.json('restore', '--as', 'twin', '--disconnect', '-c', 'other');
      const { members } = await bed.json<ClusterStatus>('status', ...TWIN);
      assert.ok(members[0]?.running);
      await bed.json('checkpoint', ...TWIN);
      assert.equal(readdirSync(join(bed.home, 'store')).sort(), ['other', 'twin']);
      await purgeTwin();
      assert.equal(readdirSync(join(bed.home, 'store')), ['other']);
    });
  });
}

test('a writable disk is refused by name', async () => {
  const image = join(bed.home, 'disk.img');
  writeFileSync(image, Buffer.alloc(2 ** 20));
  const disk = `if=none,id=d,format=raw,file=${image}`;
  await withOther(['-drive', disk, '-device', 'virtio-blk-pci,drive=d'], async () => {
    const failure = await refused('E_CLONE_DISK', 'restore', '--as', 'twin', '-c', 'other');
    assert.is(failure.member, 'a');
    assert.match(failure.message, disk);
  });
  rmSync(image);
});

/**
 * Runs a callback with another cluster: one bare machine with these options, and an epoch of it.
 */
async function withOther(words: readonly string[], use: () => Promise<void>): Promise<void> {
  const { binary, args } = bed.qemu;
  const machine = ['-nodefaults', '-machine', 'pc-i440fx-7.2', '-accel', 'tcg', '-m', '64'];
  const own = ['-display', 'none', '-qmp', 'unix:{dir}/qmp.sock,server=on,wait=off'];
  const members = [{ name: 'a', command: [binary, ...args, ...machine, ...own, ...words] }];
  const file = join(bed.home, 'other.yaml');
  writeFileSync(file, JSON.stringify({ cluster: 'other', members, store: { directory: 'store' } }));
  try {
    await bed.json('up', file);
    await bed.json('checkpoint', '-c', 'other');
    await use();
  } finally {
    await bed.umbra('down', '-c', 'other', '--purge');
    rmSync(file);
  }
}

test('three epochs are restored repeatedly in any order while a fourth is taken', async () => {
  await bed.reconfigure({ epochs: { keep: 4 } });
  const epochs: number[] = [];
  for (let count = 0; count < 3; count++) {
    for (const node of [0, 1]) await bed.shell(node, `echo ${count} >/run/epoch`);
    const { epoch = 0 } = await bed.json<RoundReport>('checkpoint', ...FIRST);
    epochs.push(epoch);
  }
  await bed.reconfigure({ epochs: { keep: 4 }, round: LONG_ROUND });
  freezeAt(bed, 'member/n1/live');
  const fourth = bed.json<RoundReport>('checkpoint', ...FIRST);
  const frozen = await frozenProcess(bed);
  const times: number[] = [];
  for (const count of ORDERS.flat()) {
    const report = await bed.json<RestoreReport>(
      ...['restore', String(epochs[count]), '--as', 'twin', ...FIRST],
    );
    times.push(report.durationMs);
    assert.equal(await marks(twin), [count, count]);
    const { busy } = await bed.json<ClusterStatus>('status', ...FIRST);
    assert.is(busy, 'checkpoint', 'the fourth is still being taken');
    await purgeTwin();
  }
  process.kill(frozen, 'SIGCONT');
  const { outcome, durationMs } = await fourth;
  assert.is(outcome, 'committed');
  const list = times.map((ms) => ms.toFixed(0)).join(', ');
  process.stdout.write(`  clones after ${list} ms, in a round of ${durationMs.toFixed(0)} ms\n`);
  await firstIsUntouched();

  for (const count of ORDERS.flat()) {
    bed.hangUp();
    await bed.json('restore', String(epochs[count]), '--replace', ...FIRST);
    assert.equal(await marks(bed), [count, count]);
  }
});

/** Reads each guest's mark: the number of the epoch it is from. */
async function marks(guests: Guests): Promise<number[]> {
  return [
    Number(await guests.shell(0, 'cat /run/epoch')),
    Number(await guests.shell(1, 'cat /run/epoch')),
  ];
}

test.run();
