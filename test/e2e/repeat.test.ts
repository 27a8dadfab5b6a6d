/**
 * Checkpoints cost a job nothing but their downtime, and an epoch can be restored for ever: five
 * checkpoints in a row under a job that nobody kills; then one epoch again and again by each mode.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { endJob, isJobRunning, jobRuns, startJob, tickers } from '../support/job.ts';

const CHECKPOINTS = 5;
const ROUND = { cases: 10, order: 400 };
/** Until the first checkpoint. */
const CASES_BEFORE = 8;
/** How long a guest may be kept off the processor on a small, busy host. */
const CROWDED_MS = 1_000;
/** What a guest is wrong by that measures its clock's rate while it boots, on such a host. */
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
    // What the guests' clocks do anyway on this machine, measured in the same run.
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
      // Its clock stood while it did, and otherwise kept the host's pace: it never made up for it.
      const passed = guest.monotonicMs - (start[node]?.monotonicMs ?? 0);
      // What it was at first is told as of its last tick, which may be as old as a gap.
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
      // --verify reads every byte against the digest taken at the seal: it never changes.
      const report = await bed.json<RestoreReport>('restore', '1', '--mode', mode, '--verify');
      assert.ok(report.members.every((member) => member.mode === mode));
      assert.equal(
        (await tickers(bed)).map(({ nonce }) => nonce),
        before,
      );
      // Let the restored guests write to their memory: the epoch must not feel it.
      await bed.dirty(0, { sizeMiB: 32, pattern: 'random' });
    }
    await bed.json('verify', '1');
  });
}

function gapMs({ monotonicGapMaxUs }: { readonly monotonicGapMaxUs: number }): number {
  return monotonicGapMaxUs / 1000;
}

test.run();
