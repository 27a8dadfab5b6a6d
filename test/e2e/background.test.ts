/**
 * Background capture of a whole cluster: each VM stands for an instant, its memory is saved as it was
 * then while it runs on.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/coordinator/report.ts';
import { findQemus } from '../../tools/setup/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess, VmWatch } from '../support/freeze.ts';

const NODES = 2;
const EPOCHS = 3;
const LIMIT_MS = 10_000;
/** Who dies, and where the member is then. */
const VICTIMS = { proxy: ['stopped', 'saving'], QEMU: ['saving'], coordinator: ['stopped'] };

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

  for (const [victim, places] of Object.entries(VICTIMS)) {
    for (const place of places) {
      test(`QEMU ${qemu.version}: ${victim} killed while a member is ${place}: VMs run, frames flow`, async () => {
        const settings = { round: { capture: 'background' } };
        bed = await Testbed.create({ nodes: NODES, qemu, settings, watch: true });
        await bed.up();
        const { epoch } = await bed.json<RoundReport>('checkpoint');
        const watches = [await VmWatch.open(bed, 0), await VmWatch.open(bed, 1)];
        freezeAt(bed, `member/n1/${place}`);
        const command = bed.umbra('checkpoint', '--json');
        const frozen = await frozenProcess(bed);
        const [daemon] = [...bed.processes()].find(([, line]) => / serve /.test(line)) ?? [];
        if (victim === 'proxy') process.kill(frozen, 'SIGKILL');
        if (victim === 'QEMU') process.kill(bed.pid(1), 'SIGKILL');
        if (victim === 'coordinator' && daemon !== undefined) process.kill(daemon, 'SIGKILL');
        if (victim !== 'proxy') process.kill(frozen, 'SIGCONT');
        assert.is((await command).code, 1);
        for (const [node, watch] of watches.entries()) {
          if (victim === 'QEMU' && node === 1) continue;
          await watch.running(LIMIT_MS);
          await watch.silentNoMore(LIMIT_MS);
        }
        await bed.json('verify', String(epoch));
      });
    }
  }
}

test.run();
