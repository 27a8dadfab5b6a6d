/**
 * A daemon takes up changed budgets and policies of its cluster.yaml while it runs: between rounds,
 * all of them or none. A round under way ends as it has begun; what runs cannot be changed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { parse, stringify } from 'yaml';
import { DaemonClient } from '../../proxy/client/daemon-client.ts';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { EpochDetail } from '../../proxy/protocol/epoch.ts';
import type { Reloaded } from '../../proxy/protocol/reload.ts';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { storedText } from '../../tools/cli/home.ts';
import type { FileSections } from '../../tools/testbed/cluster-file.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed, umbraCommand } from '../../tools/testbed/testbed.ts';
import { suite } from '../support/suite.ts';

const test = suite('reload');
/** A live phase that ends only when it is ended: nothing else comes about with such a guest. */
const ENDLESS = {
  capture: ['precopy', 'stop-copy'],
  endWhen: ['predicted-downtime 1ms'],
  memoryBound: 100_000,
  maxLive: '20h',
};
const SHORT = { capture: ['precopy', 'stop-copy'] };
const LIMIT_MS = 600_000;
let bed: Testbed;
let plain: object;
let daemon: DaemonClient;

test.before(async () => {
  bed = await Testbed.create({ nodes: 1, memoryMiB: 192, qemu: await newestQemu() });
  await bed.up();
  const { cluster, members, network } = parse(storedAs().text);
  plain = { cluster, members, network };
  daemon = new DaemonClient('demo', bed.directory);
});
test.after(async () => {
  await daemon?.close();
  await bed.dispose();
});

function storedAs(): { readonly file: string; readonly text: string } {
  process.env.UMBRA_HOME = bed.home;
  return storedText('demo');
}

function write(sections: FileSections, file = bed.file): void {
  writeFileSync(file, stringify({ ...plain, ...sections }));
}

async function reload(sections: FileSections): Promise<string[]> {
  write(sections);
  return told(await bed.json<Reloaded>('reload'));
}

function told({ applied }: Reloaded): string[] {
  return applied.map(({ option, before, after }) => `${option}: ${before} → ${after}`);
}

async function readAll(lines: AsyncIterator<string>): Promise<string[]> {
  const read: string[] = [];
  for (;;) {
    const { value, done } = await lines.next();
    if (done === true) return read;
    read.push(value);
  }
}

async function refused(...args: readonly string[]): Promise<Failure> {
  const { code, stdout, stderr } = await bed.umbra(...args, '--json');
  assert.is(code, 1, stderr);
  return (JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { failure: Failure }).failure;
}

/** Waits until a condition holds; each look asks the daemon, which takes its time. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + LIMIT_MS; !(await holds()); await delay(20)) {
    assert.ok(performance.now() < end, 'it never came about');
  }
}

test('a budget: from the next round on, and for the next daemon', async () => {
  assert.equal(await reload({ round: SHORT }), []);
  const { pid } = (await bed.json<ClusterStatus>('status')).members[0] ?? {};
  const low = { round: SHORT, store: { budget: '100MiB' } };
  assert.match((await reload(low)).join(), /^store\.budget: none: .* → 100MiB$/);
  assert.is((await refused('checkpoint')).code, 'E_BUDGET_TOO_SMALL');
  await bed.json('down', '--keep-vms');
  await bed.json('up', '--cluster', 'demo');
  await daemon.close();
  daemon = new DaemonClient('demo', bed.directory);
  assert.is((await refused('checkpoint')).code, 'E_BUDGET_TOO_SMALL');
  const high = { round: SHORT, store: { budget: '2GiB', headroom: '64MiB' } };
  assert.equal(await reload(high), [
    'store.headroom: 256MiB → 64MiB',
    'store.budget: 100MiB → 2GiB',
  ]);
  await bed.json<RoundReport>('checkpoint');
  assert.is((await bed.json<ClusterStatus>('status')).members[0]?.pid, pid, 'the VM ran on');
  assert.is((await bed.umbra('up', bed.file)).code, 0, 'it runs with this file');
});

test('a round under way ends as it has begun; the next is by the new policy', async () => {
  await bed.dirty(0, { sizeMiB: 32, rateMiB: 200 });
  await reload({ round: ENDLESS });
  const round = bed.umbra('checkpoint', '--json');
  await until(async () => (await daemon.ask('status', {})).busy === 'checkpoint');
  write({ round: SHORT });
  const [program, ...words] = umbraCommand();
  const env = { ...process.env, UMBRA_HOME: bed.home };
  const reloading = spawn(program, [...words, 'reload'], { env });
  const lines = createInterface(reloading.stdout)[Symbol.asyncIterator]();
  assert.match((await lines.next()).value, /applies when this has ended: checkpoint/);
  let answered = false;
  const answer = readAll(lines).finally(() => {
    answered = true;
  });
  await delay(500);
  assert.not(answered, 'a round was changed while it ran');
  assert.ok((await daemon.ask('abort', {})).aborted);
  const aborted = JSON.parse((await round).stdout.trim().split('\n').at(-1) ?? '');
  assert.is(aborted.failure?.code, 'E_ROUND_ABORTED', JSON.stringify(aborted));
  const stdout = (await answer).join('\n');
  assert.match(stdout, /round\.maxLive: 20h → 1min/);
  const report = await bed.json<RoundReport>('checkpoint');
  assert.is(report.failure, undefined);
});

test('what runs is refused by its key, with the way out, and nothing is changed', async () => {
  const before = storedAs();
  const [member] = (plain as { members: object[] }).members;
  write({
    members: [{ ...member, name: 'other' }],
    store: { directory: '/dev/shm/x' },
    epochs: { keep: 7 },
  });
  const { code, message, hint } = await refused('reload');
  assert.is(code, 'E_RELOAD_FIXED');
  assert.match(message, 'store.directory');
  assert.match(message, 'members[0].name');
  assert.match(hint ?? '', 'umbra down');
  write({ epochs: { keep: 0 } });
  assert.match((await refused('reload')).message, /line \d+: epochs\.keep: must keep at least 1/);
  assert.equal(storedAs(), before);
  write({ round: SHORT });
  assert.equal(await reload({ round: SHORT }), []);
});

test('SIGHUP reads the file again: fewer epochs stay', async () => {
  await bed.json('checkpoint');
  assert.is((await bed.json<{ epochs: EpochDetail[] }>('epochs')).epochs.length, 2);
  const watcher = watch(bed.directory);
  const pid = [...bed.processes()].find(([, line]) => / serve /.test(line))?.[0];
  try {
    write({ round: SHORT, epochs: { keep: 1 } });
    process.kill(pid ?? 0, 'SIGHUP');
    while (!storedAs().text.includes('keep: 1')) await once(watcher, 'change');
  } finally {
    watcher.close();
  }
  await bed.json('checkpoint');
  assert.is((await bed.json<{ epochs: EpochDetail[] }>('epochs')).epochs.length, 1);
});

test('a schedule begins, and ends', async () => {
  const last = async () => (await daemon.ask('status', {})).lastRound?.epoch ?? 0;
  const before = await last();
  await reload({ round: SHORT, checkpoint: { every: '1s' } });
  await until(async () => (await last()) > before + 1);
  assert.equal(await reload({ round: SHORT }), [
    'checkpoint.every: 1s → none: a checkpoint is taken when asked for',
  ]);
  assert.is((await daemon.ask('status', {})).schedule, undefined);
});

test('without a daemon, the way to start it with the file is told', async () => {
  await bed.json('down', '--keep-vms');
  const { code, hint } = await refused('reload');
  assert.is(code, 'E_RELOAD_OFF');
  assert.match(hint ?? '', `umbra up ${bed.file}`);
});

test.run();
