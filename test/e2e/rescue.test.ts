/**
 * The main job: an MPI job on a virtual cluster survives the loss of every VM.
 *
 * For each installed QEMU, with 2 and 4 members: checkpoint in mid-run, SIGKILL all, restore. The
 * job's own verification must pass, and the job must continue from state that was only in guest
 * RAM.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { endJob, jobRuns, startJob, tickers } from '../support/job.ts';

const JOBS = [
  { nodes: 2, round: { cases: 9, order: 400 } },
  { nodes: 4, round: { cases: 7, order: 300 } },
] as const;
const CASES_BEFORE = 2;

const test = suite('rescue');
let bed: Testbed | undefined;

test.after.each(async () => {
  await bed?.dispose();
  bed = undefined;
});

for (const qemu of await findQemus()) {
  for (const { nodes, round } of JOBS) {
    test(`QEMU ${qemu.version}: ${nodes} members, systems of ${round.order}`, async () => {
      bed = await Testbed.create({ nodes, qemu });
      await bed.up();
      await startJob(bed, round);
      await jobRuns(bed, CASES_BEFORE);
      const before = await tickers(bed);

      const checkpoint = await bed.json<RoundReport>('checkpoint');
      assert.is(checkpoint.outcome, 'committed');
      assert.is(checkpoint.barrierHeld, true, 'no member resumed before all had stopped');
      assert.is(checkpoint.members.length, nodes);
      for (const member of checkpoint.members) {
        assert.ok((member.downtimeMs ?? 0) > 0, `${member.member} reports its downtime`);
        assert.ok((member.stopSkewMs ?? -1) >= 0, `${member.member} reports its skew`);
      }
      report(`${qemu.version} ${nodes}`, checkpoint);

      bed.killAll();
      const restored = await bed.json<RestoreReport>('restore');
      assert.is(restored.members.length, nodes);
      assert.ok(restored.members.every(({ mode }) => mode === 'map'));

      const after = await tickers(bed);
      for (const [node, { nonce, ticks }] of before.entries()) {
        assert.is(after[node]?.nonce, nonce, `n${node} was continued, not rebooted`);
        assert.ok((after[node]?.ticks ?? 0) > ticks, `n${node} ticks on`);
        assert.is(after[node]?.stepsBack, 0, `n${node}: time does not run backwards`);
      }
      const verdict = await endJob(bed);
      assert.is(verdict.code, 0, verdict.output);
    });
  }
}

function report(what: string, { clusterDowntimeMs, skewMs, streamBytes }: RoundReport): void {
  process.stdout.write(
    `  ${what}: downtime ${clusterDowntimeMs} ms, skew ${skewMs} ms, ${streamBytes} bytes\n`,
  );
}

test.run();
