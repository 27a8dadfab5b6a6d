/**
 * The durable tier on real VMs. An epoch on disk survives the loss of all memory, and the job
 * continues from it. A full disk harms neither the job nor the epoch in memory. With before-commit,
 * no epoch is committed that is not on disk.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { EpochInfo } from '../../proxy/protocol/epoch.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { SlowDisk } from '../../tools/testbed/slow-disk.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess } from '../support/freeze.ts';
import { endJob, jobRuns, startJob, tickers } from '../support/job.ts';

const NODES = 2;
const PERSIST_LIMIT_MS = 600_000;
const POLL_MS = 100;

const test = suite('persist');
let bed: Testbed | undefined;
let disk = '';
let mounted = false;
let slow: SlowDisk | undefined;

test.before.each(() => {
  disk = mkdtempSync(join(tmpdir(), 'umbra-disk-'));
});
test.after.each(async () => {
  slow?.resume();
  await bed?.dispose();
  bed = undefined;
  if (mounted) execFileSync('umount', [disk]);
  mounted = false;
  slow?.dispose();
  slow = undefined;
  rmSync(disk, { recursive: true, force: true });
});

async function bedWith(persist: object): Promise<Testbed> {
  const settings = { persist: { to: disk, ...persist }, epochs: { keep: 2 } };
  bed = await Testbed.create({ nodes: NODES, qemu: await newestQemu(), settings });
  await bed.up();
  return bed;
}

function smallDisk(size: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'umbra-test', disk]);
  mounted = true;
}

const SLOW_BYTES_PER_SECOND = 16 * 2 ** 20;

/** Makes a disk so slow that writing an epoch takes some seconds. */
async function slowDisk(): Promise<SlowDisk> {
  slow = SlowDisk.create(512 * 2 ** 20);
  await slow.pace(SLOW_BYTES_PER_SECOND);
  rmSync(disk, { recursive: true });
  disk = slow.folder;
  return slow;
}

/** Returns the failure that a failed command has printed. */
function failureOf({ code, stdout }: { code: number; stdout: string }): Failure {
  assert.is(code, 1);
  return (JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure }).failure;
}

async function until(
  on: Testbed,
  holds: (status: ClusterStatus) => boolean,
): Promise<ClusterStatus> {
  for (const end = performance.now() + PERSIST_LIMIT_MS; ; await delay(POLL_MS)) {
    const status = await on.json<ClusterStatus>('status');
    if (holds(status)) return status;
    if (performance.now() > end) throw new Error(`not in time: ${JSON.stringify(status)}`);
  }
}

const isOnDisk = (epoch: number) => (status: ClusterStatus) =>
  status.epochs.some((one) => one.epoch === epoch && one.onDisk);

/** Removes all that would be lost with the host's memory: every process, and all files on tmpfs. */
function loseMemory(of: Testbed): void {
  of.hangUp();
  for (const pid of of.processes().keys()) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended together with another process
    }
  }
  while (of.processes().size > 0);
  rmSync(of.directory, { recursive: true, force: true });
}

test('a job survives the loss of all memory: restored from disk, verified by itself', async () => {
  const on = await bedWith({});
  await startJob(on, { cases: 10, order: 400 });
  await jobRuns(on, 2);
  for (let count = 0; count < 2; count++) await on.json('checkpoint');
  const before = await tickers(on);
  const status = await until(on, isOnDisk(2));
  assert.is(status.persist?.failure, undefined);
  assert.is(status.persist?.doubt, undefined);
  const checked = await on.json<{ places: string[] }>('verify', '2');
  assert.equal(checked.places, ['memory', 'disk']);

  loseMemory(on);
  await on.json('up', on.file, '--no-boot');
  // A disk that is slow to answer does not keep the daemon from starting.
  await until(on, isOnDisk(2));
  const { epochs } = await on.json<{ epochs: EpochInfo[] }>('epochs');
  const newest = epochs.at(-1);
  assert.equal([newest?.epoch, newest?.inMemory, newest?.onDisk], [2, false, true]);
  const restored = await on.json<RestoreReport>('restore');
  assert.is(restored.epoch, 2);
  assert.ok((restored.fetchMs ?? 0) > 0);
  assert.ok(restored.members.every(({ mode }) => mode === 'map'));
  const after = await tickers(on);
  for (const [node, { nonce, ticks }] of before.entries()) {
    assert.is(after[node]?.nonce, nonce, `n${node} was continued, not rebooted`);
    assert.ok((after[node]?.ticks ?? 0) > 0 && ticks > 0);
  }
  const next = await on.json<RoundReport>('checkpoint');
  assert.is(next.epoch, 3, 'numbers go on after those on disk');
  const verdict = await endJob(on);
  assert.is(verdict.code, 0, verdict.output);

  // The epoch is in memory by now, and equivalent to one that was taken there.
  on.killAll();
  const again = await on.json<RestoreReport>('restore', '2');
  assert.is(again.fetchMs, undefined);
});

test('persisting is resumed after the daemon was killed in the middle of it', async () => {
  const on = await bedWith({});
  freezeAt(on, 'persist/file/batch');
  await on.json('checkpoint');
  const writing = await frozenProcess(on);
  const text = (await on.umbra('epochs')).stdout;
  assert.match(text, /ram, persisting \d+ %/);
  for (const [pid, command] of on.processes()) {
    if (command.includes(' serve ')) process.kill(pid, 'SIGKILL');
  }
  process.kill(writing, 'SIGCONT');
  await on.reconfigure({ persist: { to: disk } });
  await until(on, isOnDisk(1));
  assert.equal((await on.json<{ places: string[] }>('verify', '1')).places, ['memory', 'disk']);
});

test('a full disk: the job runs, the epoch stays in memory, and status says why', async () => {
  smallDisk('4m');
  const on = await bedWith({});
  const before = await tickers(on);
  const round = await on.json<RoundReport>('checkpoint');
  assert.is(round.outcome, 'committed');
  const status = await until(on, ({ persist }) => persist?.failure !== undefined);
  assert.is(status.persist?.failure?.code, 'E_DURABLE_NO_ROOM');
  assert.match(status.persist?.failure?.hint ?? '', 'Free space');
  assert.ok(status.persist?.retryAt);
  assert.match(status.persist?.doubt ?? '', 'in memory', 'tmpfs is no disk');
  assert.ok(status.members.every(({ running }) => running));
  const text = (await on.umbra('status')).stdout;
  assert.match(text, 'E_DURABLE_NO_ROOM');
  assert.equal((await on.json<{ places: string[] }>('verify', '1')).places, ['memory']);

  on.killAll();
  await on.json<RestoreReport>('restore');
  const after = await tickers(on);
  for (const [node, { nonce }] of before.entries()) assert.is(after[node]?.nonce, nonce);

  execFileSync('mount', ['-o', 'remount,size=1g', disk]);
  await until(on, isOnDisk(1));
  assert.is((await on.json<ClusterStatus>('status')).persist?.failure, undefined);
});

test('before-commit: listed epochs are on disk; all VMs run after a failed round', async () => {
  smallDisk('1g');
  const on = await bedWith({ mode: 'before-commit' });
  assert.is((await on.json<RoundReport>('checkpoint')).outcome, 'committed');
  const [first] = (await on.json<{ epochs: EpochInfo[] }>('epochs')).epochs;
  assert.equal([first?.epoch, first?.inMemory, first?.onDisk], [1, true, true]);

  mkdirSync(join(disk, 'full'));
  const filler = join(disk, 'full', 'file');
  execFileSync('sh', ['-c', `dd if=/dev/zero of=${filler} bs=1M 2>/dev/null || true`]);
  assert.is(failureOf(await on.umbra('checkpoint', '--json')).code, 'E_DURABLE_NO_ROOM');
  const status = await on.json<ClusterStatus>('status');
  assert.ok(status.members.every(({ running }) => running));
  assert.equal(
    status.epochs.map(({ epoch }) => epoch),
    [1],
  );

  rmSync(filler);
  const next = await on.json<RoundReport>('checkpoint');
  assert.is(next.outcome, 'committed');
  loseMemory(on);
  await on.json('up', on.file, '--no-boot');
  await until(on, isOnDisk(next.epoch ?? 0));
  assert.is((await on.json<RestoreReport>('restore')).epoch, next.epoch);
});

test('a hung disk blocks no round, command or daemon, and is used again later', async () => {
  const hanging = await slowDisk();
  const on = await bedWith({});
  freezeAt(on, 'persist/file/batch');
  await on.json('checkpoint');
  const writing = await frozenProcess(on);
  hanging.hang();
  process.kill(writing, 'SIGCONT');
  const second = await on.json<RoundReport>('checkpoint');
  assert.is(second.outcome, 'committed');
  const status = await on.json<ClusterStatus>('status');
  assert.ok(status.members.every(({ running }) => running));
  assert.equal(
    status.epochs.map(({ epoch, onDisk }) => [epoch, onDisk]),
    [
      [1, false],
      [2, false],
    ],
  );
  // A process blocked on the disk cannot be killed. It is not the daemon: else these would hang.
  await on.json('down', '--keep-vms');
  await on.json('up', on.file);
  hanging.resume();
  await hanging.pace('as quick as can be');
  assert.is((await on.json<RoundReport>('checkpoint')).epoch, 3);
  await until(on, (now) => isOnDisk(2)(now) && isOnDisk(3)(now));
  assert.equal((await on.json<{ places: string[] }>('verify', '3')).places, ['memory', 'disk']);
});

test('before-commit on a hung disk: the round aborts in time, the next one at once', async () => {
  const hanging = await slowDisk();
  const on = await bedWith({ mode: 'before-commit', timeLimit: '30s' });
  freezeAt(on, 'persist/file/batch');
  const first = on.umbra('checkpoint', '--json');
  const writing = await frozenProcess(on);
  hanging.hang();
  process.kill(writing, 'SIGCONT');
  assert.is(failureOf(await first).code, 'E_PERSIST_SLOW');
  const next = failureOf(await on.umbra('checkpoint', '--json'));
  assert.is(next.code, 'E_DURABLE_SILENT');
  assert.match(next.hint ?? '', 'continues when it answers');
  const { members, epochs, persist } = await on.json<ClusterStatus>('status');
  assert.ok(members.every(({ running }) => running));
  assert.equal(epochs, []);
  assert.is(persist?.failure?.code, 'E_DURABLE_SILENT');

  hanging.resume();
  await hanging.pace('as quick as can be');
  const { epochs: none } = await until(on, (now) => now.persist?.failure === undefined);
  assert.equal(none, [], 'what was aborted is not listed afterwards');
  const { epoch } = await on.json<RoundReport>('checkpoint');
  assert.equal((await on.json<{ places: string[] }>('verify', `${epoch}`)).places, [
    'memory',
    'disk',
  ]);
});

test('bit rot in memory: the copy on disk is offered, and restored', async () => {
  const on = await bedWith({});
  const before = await tickers(on);
  await on.json('checkpoint');
  await until(on, isOnDisk(1));
  const shadows = join(on.directory, 'shadows');
  const find = ['find', shadows, '-path', '*/n1/device-state.bin'];
  const [path = ''] = execFileSync(find[0] as string, find.slice(1), { encoding: 'utf8' }).split(
    '\n',
  );
  execFileSync('sh', ['-c', `printf x | dd of=${path} bs=1 seek=1000 conv=notrunc 2>/dev/null`]);
  on.killAll();
  const failure = failureOf(await on.umbra('restore', '--json'));
  assert.is(failure.code, 'E_EPOCH_CORRUPT');
  assert.match(failure.hint ?? '', 'umbra restore 1 --from disk');
  await on.json<RestoreReport>('restore', '1', '--from', 'disk');
  const after = await tickers(on);
  for (const [node, { nonce }] of before.entries()) assert.is(after[node]?.nonce, nonce);
});

test.run();
