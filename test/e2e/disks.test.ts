/**
 * Disks that are part of an epoch. While all VMs are stopped, their files are frozen as the epoch's
 * layers; a restored VM writes to new layers of its own.
 */
import { readdirSync, readFileSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { suite } from '../support/suite.ts';

const NODES = 2;
const KEEP = 2;
const DISK_BYTES = 16 * 2 ** 20;
const ROUNDS = 5;
const POLL_MS = 50;
const MERGE_LIMIT_MS = 600_000;

const test = suite('disks');
let bed: Testbed;

test.before(async () => {
  const settings = { round: { capture: 'background', disks: 'snapshot' }, epochs: { keep: KEEP } };
  const disk = '/{name}.raw,format=raw,if=virtio,cache=writeback';
  const qemu = await newestQemu();
  const about = { nodes: NODES, memoryMiB: 192, qemu, settings, disk };
  bed = await Testbed.create({ ...about, watch: true });
  for (let node = 0; node < NODES; node++) {
    writeFileSync(rawOf(node), '');
    truncateSync(rawOf(node), DISK_BYTES);
  }
  await bed.up();
});
test.after(() => bed.dispose());

test('each epoch has the disks of its cut, and a restore leaves the others unchanged', async () => {
  for (const words of ['one', 'two', 'three']) {
    await write(words);
    const { outcome, failure, members } = await bed.json<RoundReport>('checkpoint');
    assert.is(outcome, 'committed', failure?.message);
    for (const { disks, cut } of members) {
      assert.is(cut, 'all-stopped');
      assert.is(disks?.length, 1);
    }
  }
  await write('after all of them');
  for (const [epoch, words] of [
    [2, 'two'],
    [3, 'three'],
    [2, 'two'],
  ] as const) {
    bed.killAll();
    await bed.json<RestoreReport>('restore', String(epoch));
    assert.equal(await read(), Array(NODES).fill(words), 'as the guest reads it from the disk');
    await write(`overwritten after ${epoch}`);
    assert.equal(await read(), Array(NODES).fill(`overwritten after ${epoch}`));
  }
  const raw = readFileSync(rawOf(0), 'latin1').slice(0, 3);
  assert.is(raw, 'one', 'what the VM was started with stays as the first epoch found it');
});

test('layers that no epoch needs are merged: chains do not grow with rounds', async () => {
  for (let round = 0; round < ROUNDS; round++) {
    await write(`round ${round}`);
    await bed.json<RoundReport>('checkpoint');
    await merged();
  }
  await bed.json<RoundReport>('checkpoint'); // what was merged meanwhile goes with it
  await merged();
  const report = await bed.json<RoundReport>('checkpoint');
  const depths = report.members.map(({ disks = [] }) => disks[0]?.layers.length ?? 0);
  assert.ok(Math.max(...depths) <= KEEP + 4, `${depths} layers`);
  const files = layersOf(0);
  assert.ok(files.length <= KEEP + 4, `${files}`);
  bed.killAll();
  await bed.json<RestoreReport>('restore');
  assert.equal(await read(), Array(NODES).fill(`round ${ROUNDS - 1}`));
});

test('a missing file of an epoch is named, and nothing is started', async () => {
  const { members } = await bed.json<RoundReport>('checkpoint');
  const path = members[1]?.disks?.[0]?.layers[0]?.path ?? '';
  const before = readFileSync(path);
  bed.killAll();
  unlinkSync(path);
  const { code, stdout } = await bed.umbra('restore', '--json');
  assert.is(code, 1);
  assert.match(stdout, /E_DISK_LAYER/);
  assert.match(stdout, path);
  writeFileSync(path, before);
  await bed.json('restore');
});

test('disks are frozen by every capture, and agree with memory after each restore', async () => {
  for (const capture of [['stop-copy'], ['tracked', 'precopy', 'stop-copy']]) {
    await bed.reconfigure({ round: { capture, disks: 'snapshot' }, epochs: { keep: KEEP } });
    const taken: (string | undefined)[] = [];
    const rounds = capture.length === 1 ? ['first'] : ['base', 'tracked'];
    for (const words of rounds) {
      await write(`${capture[0]} ${words}`);
      const report = await bed.json<RoundReport>('checkpoint');
      assert.is(report.outcome, 'committed', report.failure?.message);
      taken.push(report.members[0]?.capture);
      for (const { disks } of report.members) assert.is(disks?.length, 1);
    }
    assert.equal(taken.at(-1), capture[0]);
    await write('afterwards');
    bed.killAll();
    await bed.json<RestoreReport>('restore');
    const last = `${capture[0]} ${rounds.at(-1)}`;
    assert.equal(await read(), Array(NODES).fill(last), 'as the guest reads it from the disk');
    assert.equal(await noted(), Array(NODES).fill(last), 'as the guest has it in memory');
  }
});

test.run();

function rawOf(node: number): string {
  return join(bed.home, `n${node}.raw`);
}

function layersOf(node: number): string[] {
  return readdirSync(bed.home).filter((name) => name.startsWith(`n${node}.raw.umbra-`));
}

/** Waits until no VM merges layers: a round starts merging and does not wait for it. */
async function merged(): Promise<void> {
  for (let node = 0; node < NODES; node++) {
    const qmp = await QmpClient.connect(join(bed.memberDirectory(node), 'watch.sock'));
    try {
      for (const end = performance.now() + MERGE_LIMIT_MS; ; await delay(POLL_MS)) {
        const jobs = await qmp.execute('human-monitor-command', {
          'command-line': 'info block-jobs',
        });
        if (jobs.startsWith('No active jobs')) break;
        assert.ok(performance.now() < end, jobs);
      }
    } finally {
      qmp.close();
    }
  }
}

/** Writes to the disk itself, through the guest's page cache, and notes it in memory. */
async function write(words: string): Promise<void> {
  const dd = 'dd of=/dev/vda bs=512 count=1 conv=fsync 2>/dev/null';
  const command = `printf '%-512s' '${words}' | ${dd}; echo '${words}' >/run/written`;
  for (let node = 0; node < NODES; node++) await bed.shell(node, command);
}

async function read(): Promise<string[]> {
  const command = 'echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=512 count=1 2>/dev/null';
  const found = [...Array(NODES).keys()].map((node) => bed.shell(node, command));
  return (await Promise.all(found)).map((text) => text.trim());
}

/** Returns what the guests have noted in memory. */
async function noted(): Promise<string[]> {
  const found = [...Array(NODES).keys()].map((node) => bed.shell(node, 'cat /run/written'));
  return (await Promise.all(found)).map((text) => text.trim());
}
