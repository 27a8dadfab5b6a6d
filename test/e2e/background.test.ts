/**
 * Background capture of a whole cluster: each VM stands for an instant, its memory is saved as it was
 * then while it runs on.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/coordinator/report.ts';
import { findQemus } from '../../tools/setup/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';

const NODES = 2;
const EPOCHS = 3;

const test = suite('background');
let bed: Testbed | undefined;

test.after.each(async () => {
  await bed?.dispose();
  bed = undefined;
});

for (const qemu of await findQemus()) {
  const ownWay = Number(qemu.version.split('.')[0]) < 8 ? 'frames held' : 'all stopped';

  test(`QEMU ${qemu.version}: consistent by ${ownWay}, and what is restored is the instant of the cut`, async () => {
    const settings = { round: { capture: 'background' }, epochs: { keep: EPOCHS } };
    bed = await Testbed.create({ nodes: NODES, qemu, settings });
    await bed.up();
    await bed.shell(1, 'dirty --size-mib 64 --rate-mib 100 >/run/dirty.log 2>&1 & sleep 2');
    for (let epoch = 1; epoch <= EPOCHS; epoch++) {
      for (let node = 0; node < NODES; node++) {
        await bed.shell(node, `echo nonce-${epoch}-${node} >/run/nonce`);
      }
      const report = await bed.json<RoundReport>('checkpoint');
      process.stdout.write(
        `  ${qemu.version}: ${report.members.map(({ downtimeMs, protocol }) => `${downtimeMs} ms ${protocol}`).join(', ')}; cluster ${report.clusterDowntimeMs} ms; ${report.durationMs} ms\n`,
      );
      assert.is(report.outcome, 'committed');
      assert.ok(report.barrierHeld);
      assert.ok(report.members.every(({ capture }) => capture === 'background'));
      assert.ok(report.members.every(({ protocol }) => protocol === ownWay));
    }
    for (const epoch of [2, 3, 1]) {
      bed.killAll();
      const { members } = await bed.json<RestoreReport>('restore', String(epoch));
      assert.ok(members.every(({ mode }) => mode === 'map'));
      for (let node = 0; node < NODES; node++) {
        const nonce = await bed.shell(node, 'cat /run/nonce');
        assert.is(nonce.trim(), `nonce-${epoch}-${node}`);
      }
      const verified = 'kill -USR1 $(pidof dirty); sleep 1; tail -1 /run/dirty.log';
      assert.match(await bed.shell(1, verified), /verified/, 'a torn memory would not');
    }
  });
}

test.run();
