/**
 * Background capture under a job. The job is checkpointed five times in mid-run, killed and
 * restored from the fourth epoch, and it verifies itself. Restored VMs, their memory mapped from an
 * epoch, are captured in the background like any others.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { casesPassed, endJob, jobRuns, startJob } from '../support/job.ts';

const CHECKPOINTS = 5;
const RESTORED = 4;
const ROUND = { cases: 20, order: 200 };

const test = suite('background job');
let bed: Testbed | undefined;

test.after.each(async () => {
  await bed?.dispose();
  bed = undefined;
});

for (const qemu of await findQemus()) {
  // QEMU 7.2 resumes VMs by itself after a snapshot; 10.0 can keep them stopped.
  const ownWay = Number(qemu.version.split('.')[0]) < 8 ? 'frames-held' : 'all-stopped';
  const cut = ownWay === 'frames-held' ? 'auto' : 'all-stopped';

  test(`QEMU ${qemu.version}, ${ownWay}: of five checkpoints the fourth restores`, async () => {
    const round = { capture: 'background', cut };
    const settings = { round, epochs: { keep: CHECKPOINTS + 1 } };
    bed = await Testbed.create({ nodes: 2, qemu, settings });
    await bed.up();
    await startJob(bed, ROUND);
    await jobRuns(bed, 2);
    const passed: number[] = [];
    for (let epoch = 1; epoch <= CHECKPOINTS; epoch++) {
      const report = await checkpoint(bed, ownWay);
      assert.is(report.epoch, epoch);
      passed.push(await casesPassed(bed));
      await jobRuns(bed, (passed.at(-1) ?? 0) + 2);
    }
    bed.killAll();
    await bed.json('restore', String(RESTORED));
    const now = await casesPassed(bed);
    assert.ok(now < (passed.at(-1) ?? 0) + 2, `in mid-run again: ${now} of ${passed}`);
    await checkpoint(bed, ownWay);
    bed.killAll();
    await bed.json('restore');
    const verdict = await endJob(bed);
    assert.is(verdict.code, 0, verdict.output);
  });
}

async function checkpoint(cluster: Testbed, ownWay: string): Promise<RoundReport> {
  const report = await cluster.json<RoundReport>('checkpoint');
  const { outcome, failure, members, barrierHeld, clusterDowntimeMs, durationMs } = report;
  const how = members.map(({ downtimeMs = 0, silentMs, savingMs = 0, waitedShare = 0 }) => {
    const silent = silentMs === undefined ? '' : `, silent ${silentMs.toFixed(1)} ms`;
    const waited = `vCPU waited ${(waitedShare * 100).toFixed(1)} %`;
    return `${downtimeMs.toFixed(1)} ms${silent}, saved in ${savingMs.toFixed(0)} ms, ${waited}`;
  });
  process.stdout.write(
    `  ${how.join('; ')}; cluster ${clusterDowntimeMs} ms of ${durationMs.toFixed(0)} ms\n`,
  );
  assert.is(outcome, 'committed', failure?.message);
  assert.ok(barrierHeld);
  assert.ok(members.every(({ capture }) => capture === 'background'));
  assert.ok(members.every(({ cut }) => cut === ownWay));
  return report;
}

test.run();
