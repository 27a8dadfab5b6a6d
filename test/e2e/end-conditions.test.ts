/**
 * Each end condition ends the live phase of real VMs for its own reason, and the report names it.
 * The live phase of a VM that dirties memory too fast to converge ends by the memory bound.
 */
import * as assert from 'uvu/assert';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { endMemory } from '../../tools/testbed/dirty.ts';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { endJob, jobRuns, startJob } from '../support/job.ts';
import { suite } from '../support/suite.ts';

const MEMORY_MIB = 192;
const LITTLE_MS = 500;
/** Limit long before which another condition holds, however slow the machine. */
const NEVER = '30min';

const test = suite('end conditions');
let bed: Testbed;
/** Downtime of the first round. */
let usualMs = 0;

test.before(async () => {
  bed = await Testbed.create({ nodes: 2, memoryMiB: MEMORY_MIB, qemu: await newestQemu() });
  await bed.up();
});
test.after(() => bed.dispose());

/** Takes a checkpoint under other settings. */
async function checkpoint(round: object): Promise<RoundReport> {
  await bed.reconfigure({ round });
  return bed.json<RoundReport>('checkpoint');
}

test('all-first-pass is the default', async () => {
  const { endReason, members, clusterDowntimeMs = 0 } = await checkpoint({});
  usualMs = clusterDowntimeMs;
  assert.match(endReason ?? '', /^all-first-pass/);
  for (const { sample } of members) assert.ok((sample?.passes ?? 0) >= 2);
});

test('any-first-pass', async () => {
  const { endReason } = await checkpoint({ endWhen: ['any-first-pass'] });
  assert.match(endReason ?? '', /^any-first-pass: n[01]/);
});

test('predicted-downtime waits until little is left, and says what it expects', async () => {
  // The reachable downtime depends on the machine: twice that of the default round is reachable.
  const most = Math.ceil(Math.max(LITTLE_MS, 2 * usualMs));
  const report = await checkpoint({ endWhen: [`predicted-downtime ${most}ms`], maxLive: NEVER });
  assert.match(report.endReason ?? '', /^predicted-downtime/);
  assert.ok((report.predictedDowntimeMs ?? Number.POSITIVE_INFINITY) <= most);
});

test('elapsed ends a live phase that no other condition ends', async () => {
  const { endReason } = await checkpoint({ endWhen: ['predicted-downtime 1ms'], maxLive: '700ms' });
  assert.match(endReason ?? '', /^elapsed/);
});

test('a VM that never converges ends by the memory bound, and keeps to it', async () => {
  await bed.dirty(1, { sizeMiB: 64, pattern: 'random' });
  const bound = 1.5;
  const endWhen = ['predicted-downtime 1ms'];
  const report = await checkpoint({ endWhen, memoryBound: bound, maxLive: NEVER });
  assert.match(report.endReason ?? '', /^memory-bound: n1/);
  for (const { member, liveBytes = 0, reservedBytes = 0 } of report.members) {
    const most = bound * reservedBytes;
    assert.ok(liveBytes <= most, `${member} streamed ${liveBytes} bytes, ${most} were allowed`);
  }
  assert.match(await bed.shell(1, endMemory()), /verified/);
});

test('a job under a round of many passes continues, and verifies', async () => {
  await startJob(bed, { cases: 12, order: 300 });
  await jobRuns(bed, 2);
  const { outcome } = await checkpoint({ endWhen: ['predicted-downtime 100ms', 'no-progress'] });
  assert.is(outcome, 'committed');
  const verdict = await endJob(bed);
  assert.is(verdict.code, 0, verdict.output);
});

test.run();
