/**
 * Checkpoints cost a job nothing but their downtime, and an epoch can be restored any number of
 * times: five checkpoints in a row under a job that is not killed, then one epoch repeatedly by
 * each mode.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { endJob, isJobRunning, jobRuns, startJob, tickers } from '../support/job.ts';

const CHECKPOINTS = 5;
const ROUND = { cases: 10, order: 400 };
/** Time before the first checkpoint. */
const CASES_BEFORE = 8;
/** Longest time a guest may be kept off the processor on a small, busy host. */
const CROWDED_MS = 1_000;
/** Relative error of a guest's clock rate, which it measures while it boots on such a host. */
const CALIBRATION = 0.02;

const test = suite('repeat');
let bed: Testbed | undefined;

test.after.each(async () => {
  await bed?.dispose();
  bed = undefined;
});

for (const qemu of await findQemus()) {
  test(`QEMU ${qemu.version}: five checkpoints in a row, and the job passes`, async () => {
    bed = await Testbed.create({ nodes: 2, qemu });
    await bed.up();
    await startJob(bed, ROUND);
    await jobRuns(bed, 2);
    // Measured in the same run: how the guests' clocks behave on this machine without checkpoints.
    await tickers(bed, 'reset');
    await jobRuns(bed, CASES_BEFORE);
    const usualGapMs = Math.max(...(await tickers(bed, 'reset')).map(gapMs));
    let longestMs = 0;
    let stoppedMs = 0;
    const startMs = performance.now();
    const start = await tickers(bed);
    for (let round = 0; round < CHECKPOINTS; round++) {
      const report = await bed.json<RoundReport>('checkpoint');
      assert.is(report.outcome, 'committed');
      assert.is(report.barrierHeld, true);
      longestMs = Math.max(longestMs, report.clusterDowntimeMs ?? 0);
      stoppedMs += Math.min(...report.members.map(({ downtimeMs = 0 }) => downtimeMs));
      await jobRuns(bed, CASES_BEFORE + 2 * round);
    }
    assert.ok(await isJobRunning(bed), 'the job ran under the last of them');
    const end = await tickers(bed);
    const outsideMs = performance.now() - startMs;
    for (const [node, guest] of end.entries()) {
      assert.is(guest.stepsBack, 0);
      const gap = gapMs(guest);
      const allowed = longestMs + usualGapMs * 3 + CROWDED_MS;
      assert.ok(gap <= allowed, `the clock jumped by ${gap} ms; ${allowed} ms would be usual`);
      // The clock was stopped with the VM, and otherwise kept the host's pace: it never caught up.
      const passed = guest.monotonicMs - (start[node]?.monotonicMs ?? 0);
      // The first reading is that of the last tick, which may be as old as a gap.
      const most = outsideMs - stoppedMs + CALIBRATION * outsideMs + usualGapMs;
      assert.ok(passed <= most, `${passed} ms passed in n${node}, ${most} ms at most outside`);
    }
    const verdict = await endJob(bed);
    assert.is(verdict.code, 0, verdict.output);
  });

  test(`QEMU ${qemu.version}: one epoch, twice by map and twice by stream`, async () => {
    bed = await Testbed.create({ nodes: 2, qemu });
    await bed.up();
    const before = (await tickers(bed)).map(({ nonce }) => nonce);
    await bed.json('checkpoint');
    for (const mode of ['map', 'stream', 'map', 'stream'] as const) {
      bed.killAll();
      // --verify checks every byte against the digest taken at the seal: the epoch never changes.
      const report = await bed.json<RestoreReport>('restore', '1', '--mode', mode, '--verify');
      assert.ok(report.members.every((member) => member.mode === mode));
      assert.equal(
        (await tickers(bed)).map(({ nonce }) => nonce),
        before,
      );
      // Let the restored guests write to their memory: the epoch must not change.
      await bed.dirty(0, { sizeMiB: 32, pattern: 'random' });
    }
    await bed.json('verify', '1');
  });
}

function gapMs({ monotonicGapMaxUs }: { readonly monotonicGapMaxUs: number }): number {
  return monotonicGapMaxUs / 1000;
}

test.run();
