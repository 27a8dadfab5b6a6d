/**
 * Background capture of a whole cluster: each VM stands for an instant, its memory is saved as it was
 * then while it runs on.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/coordinator/report.ts';
import { findQemus, type QemuBinary } from '../../tools/setup/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { freezeAt, frozenProcess, VmWatch } from '../support/freeze.ts';

const NODES = 2;
const EPOCHS = 3;
const LIMIT_MS = 10_000;
/** So long may no frame pass: TCP gives up after minutes, MPI jobs and people before that. */
const SILENT_LIMIT_MS = 6_000;
/** Who dies, and where a member is then: opened, asked to stop, cut, let go, saved, sealing. */
const EVERYWHERE = ['opening', 'stopping', 'stopped', 'resuming', 'saving', 'sealing'] as const;
const VICTIMS = {
  proxy: EVERYWHERE,
  daemon: EVERYWHERE,
  'daemon and proxies': ['stopping', 'stopped', 'saving'],
  QEMU: ['stopped', 'saving'],
} as const;
type Victim = keyof typeof VICTIMS;
/** Guest memory that is being written all the time: a page nobody releases is found at once. */
const VERIFY = 'kill -USR1 $(pidof dirty); sleep 1; tail -1 /run/dirty.log';
const BUSY = 'dirty --size-mib 32 --rate-mib 50 >/run/dirty.log 2>&1 & sleep 1';

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
    const seen: (string | undefined)[] = [];
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
      seen.push(...report.members.map(({ protocol }) => protocol));
    }
    // One that hears of the barrier before QEMU has let its VM run has stood until then, too.
    assert.ok(seen.includes(ownWay));
    assert.ok(seen.every((one) => one === ownWay || one === 'all stopped'));
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

  kills(qemu);
}

/** One cluster, many deaths: after each, everything goes on, and the next round commits. */
function kills(qemu: QemuBinary): void {
  const suiteOf = suite(`background kills on QEMU ${qemu.version}`);
  let cluster: Testbed;
  let watches: VmWatch[] = [];

  suiteOf.before(async () => {
    const settings = { round: { capture: 'background' } };
    cluster = await Testbed.create({ nodes: NODES, memoryMiB: 192, qemu, settings, watch: true });
    await cluster.up();
    for (let node = 0; node < NODES; node++) await cluster.shell(node, BUSY);
  });
  suiteOf.after(() => cluster.dispose());
  suiteOf.after.each(() => {
    for (const watch of watches) watch.close();
    watches = [];
  });

  for (const victim of Object.keys(VICTIMS) as Victim[]) {
    for (const place of VICTIMS[victim]) {
      suiteOf(`${victim} killed while a member is ${place}`, async () => {
        const { epoch } = await cluster.json<RoundReport>('checkpoint');
        watches = await Promise.all([0, 1].map((node) => VmWatch.open(cluster, node)));
        freezeAt(cluster, `member/n1/${place}`);
        const command = cluster.umbra('checkpoint', '--json');
        const frozen = await frozenProcess(cluster);
        const died = performance.now();
        kill(cluster, victim, frozen);
        if (victim === 'daemon and proxies') await cluster.json('up', cluster.file);
        assert.is((await command).code, 1);

        const left = victim === 'QEMU' ? [0] : [0, 1];
        await Promise.all(
          left.map(async (node) => {
            await watches[node]?.running(LIMIT_MS);
            await watches[node]?.silentNoMore(LIMIT_MS);
            // No write is left waiting for its page: the busy process goes on.
            assert.match(await cluster.shell(node, VERIFY), /verified/);
          }),
        );
        const tookMs = Math.round(performance.now() - died);
        process.stdout.write(`  ${place}, ${victim}: all of it over after ${tookMs} ms\n`);
        assert.ok(tookMs < SILENT_LIMIT_MS, `it took ${tookMs} ms`);
        if (victim === 'daemon') await cluster.json('up', cluster.file);
        await cluster.json('verify', String(epoch));
        if (victim !== 'QEMU') return;
        cluster.hangUp();
        await cluster.json('restore', '--replace');
      });
    }
  }

  suiteOf('and memory is whole: every other capture works as before', async () => {
    for (const capture of ['stop-copy', 'background']) {
      await cluster.reconfigure({ round: { capture } });
      const report = await cluster.json<RoundReport>('checkpoint');
      assert.is(report.outcome, 'committed', report.failure?.message);
    }
  });

  suiteOf.run();
}

/** Of a frozen member, the QEMU or what runs beside it; a frozen one that lives goes on. */
function kill(bed: Testbed, victim: Victim, frozen: number): void {
  const ours = [...bed.processes()].filter(([, line]) => !line.includes('qemu'));
  const daemons = ours.filter(([, line]) => / serve /.test(line)).map(([pid]) => pid);
  const proxies = ours.filter(([, line]) => /member\/process/.test(line)).map(([pid]) => pid);
  if (victim === 'proxy') process.kill(frozen, 'SIGKILL');
  if (victim === 'QEMU') process.kill(bed.pid(1), 'SIGKILL');
  if (victim === 'daemon') for (const pid of daemons) process.kill(pid, 'SIGKILL');
  if (victim === 'daemon and proxies') {
    for (const pid of [...daemons, ...proxies]) process.kill(pid, 'SIGKILL');
  }
  if (victim === 'QEMU' || victim === 'daemon') process.kill(frozen, 'SIGCONT');
}

test.run();
