/**
 * The cut is consistent: guests exchange numbered messages all-to-all, and in no epoch has one
 * received a message that its sender has not yet sent. The counts are read from the shadows, which
 * hold the instant of the cut; a restored guest would run on before it could answer.
 *
 * A race that is seldom lost proves little, so one member is made late:
 *
 *     n0, n1   ──▶ stopped ──▶ ?                      consistent: n2 receives none of it
 *     n2       ──▶ frozen before its stop, VM runs ───────── thawed ──▶ stopped
 *
 * The same is done with a daemon that lacks a part the cut depends on
 * (test/support/broken-daemon.ts): then there must be orphans.
 */
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { Catalogue } from '../../shadow/index.ts';
import { findQemus, type QemuBinary } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { breakDaemon, type Part } from '../support/broken-daemon.ts';
import { freezeAt, frozenProcess, VmWatch } from '../support/freeze.ts';
import {
  countsInShadow,
  countsNow,
  countsReach,
  describeOrphan,
  type MeshCounts,
  type Orphan,
  orphans,
  PROTOCOLS,
  startMesh,
} from '../support/mesh.ts';
import { suite } from '../support/suite.ts';

const NODES = 3;
const LATE = 2;
const EPOCHS = 2;
/** Messages a second to each peer by each protocol: some 200 frames a second for every guest. */
const RATE = 40;
/** Number of messages that are exchanged while one member is late. */
const MEANWHILE = 20;
const STAND_LIMIT_MS = 300_000;
/** A frozen proxy is given up after half of it. */
const STOP_DEADLINE = '10min';

const CAPTURES = {
  'frames-held': { capture: 'background' },
  'all-stopped': { capture: 'background', cut: 'all-stopped' },
  precopy: { capture: ['precopy', 'stop-copy'] },
} as const;
type Capture = keyof typeof CAPTURES;

function cut(qemu: QemuBinary): void {
  const test = suite(`cut on QEMU ${qemu.version}`);
  const keepsStopped = Number(qemu.version.split('.')[0]) >= 8;
  const captures = (Object.keys(CAPTURES) as Capture[]).filter((capture) => {
    return keepsStopped || capture !== 'all-stopped';
  });
  let bed: Testbed;
  let now: string | undefined;
  let watches: VmWatch[] = [];

  test.before(async () => {
    bed = await Testbed.create({ nodes: NODES, memoryMiB: 192, qemu, watch: true });
    await bed.up();
    await startMesh(bed, RATE);
  });
  test.after(() => bed.dispose());
  test.after.each(() => {
    for (const watch of watches) watch.close();
    watches = [];
  });

  /** Replaces the daemon while the guests run on. */
  async function run(capture: Capture, broken: readonly Part[]): Promise<void> {
    if (now === `${capture} ${broken}`) return;
    now = `${capture} ${broken}`;
    await bed.reconfigure({
      round: { ...CAPTURES[capture], stopDeadline: STOP_DEADLINE },
      epochs: { keep: EPOCHS + 1 },
    });
    if (broken.length > 0) await breakDaemon(bed, broken);
  }

  /** Waits until each node has received more from each other one: messages do flow. */
  async function allHearMore(): Promise<void> {
    for (let node = 0; node < NODES; node++) {
      const before = await countsNow(bed, node);
      await countsReach(bed, node, ({ peers }) => {
        return peers.every(({ received }, peer) => {
          const known = before.peers[peer]?.received;
          return peer === node || PROTOCOLS.every((one) => received[one] > (known?.[one] ?? 0));
        });
      });
    }
  }

  /** Returns the counts of every node at its cut. */
  async function countsOf({ epoch = 0, outcome, failure }: RoundReport): Promise<MeshCounts[]> {
    assert.is(outcome, 'committed', failure?.message);
    const manifest = await new Catalogue(join(bed.directory, 'epochs'), 'demo').read(epoch);
    return Promise.all(
      manifest.members.map(({ name, shadow }) => {
        return countsInShadow(join(bed.directory, 'shadows', manifest.round, name), shadow);
      }),
    );
  }

  /** Takes a checkpoint in which one member stops only after `meanwhile`. */
  async function checkpointWithLateMember(meanwhile: () => Promise<void>): Promise<RoundReport> {
    watches = await Promise.all([0, 1].map((node) => VmWatch.open(bed, node)));
    freezeAt(bed, `member/n${LATE}/stopping`);
    const thawed = frozenProcess(bed).then(async (pid) => {
      try {
        await meanwhile();
      } finally {
        process.kill(pid, 'SIGCONT');
      }
    });
    return (await Promise.all([bed.json<RoundReport>('checkpoint'), thawed]))[0];
  }

  /** Waits until the others are cut and the late one has received what they sent afterwards. */
  async function lateMemberHears(): Promise<void> {
    await Promise.all(watches.map((watch) => watch.stood(STAND_LIMIT_MS)));
    const after = (await countsNow(bed, 0)).peers[LATE]?.sent;
    assert.ok(after !== undefined);
    await countsReach(bed, LATE, ({ peers }) => {
      return PROTOCOLS.every((one) => (peers[0]?.received[one] ?? 0) > after[one] + MEANWHILE);
    });
  }

  /** Waits while the others, cut, are stopped or run behind held frames, and the late one sends. */
  async function timePasses(goOn: boolean): Promise<void> {
    await Promise.all(watches.map((watch) => watch.stood(STAND_LIMIT_MS, !goOn)));
    for (const node of goOn ? [0, LATE] : [LATE]) {
      const peer = node === LATE ? 0 : LATE;
      const before = (await countsNow(bed, node)).peers[peer]?.sent.udp ?? 0;
      await countsReach(bed, node, ({ peers }) => {
        return (peers[peer]?.sent.udp ?? 0) > before + MEANWHILE;
      });
    }
  }

  for (const capture of captures) {
    test(`${capture}: in no epoch has a node received what was not yet sent`, async () => {
      await run(capture, []);
      for (let epoch = 0; epoch < EPOCHS; epoch++) {
        await allHearMore();
        const report = await bed.json<RoundReport>('checkpoint');
        const found = orphans(await countsOf(report));
        const protocols = report.members.map(({ cut }) => cut);
        if (capture !== 'precopy') assert.ok(protocols.every((one) => one === capture));
        tell(`${modeOf(report)}, epoch ${report.epoch}`, found);
        assert.equal(found.map(describeOrphan), []);
      }
    });

    test(`${capture}: nor when a member is cut late, and restored guests run on`, async () => {
      await run(capture, []);
      const goOn = capture === 'frames-held';
      const report = await checkpointWithLateMember(() => timePasses(goOn));
      const counts = await countsOf(report);
      tell(`${capture}, n${LATE} late by ${report.skewMs} ms`, orphans(counts));
      assert.ok(report.barrierHeld);
      assert.equal(orphans(counts).map(describeOrphan), []);

      bed.killAll();
      await bed.json<RestoreReport>('restore');
      await allHearMore(); // TCP neither lost nor added a message: else mesh.c would have ended
    });
  }

  const breaks: readonly [Capture, Part][] = [
    ...captures.map((capture) => [capture, 'barrier'] as [Capture, Part]),
    ['frames-held', 'hold'],
  ];
  for (const [capture, part] of breaks) {
    test(`${capture} without ${part}: the cut is found to be inconsistent`, async () => {
      await run(capture, [part]);
      const report = await checkpointWithLateMember(lateMemberHears);
      const found = orphans(await countsOf(report));
      tell(`${capture} without ${part}`, found);
      for (const protocol of PROTOCOLS) {
        const orphan = found.find(
          (one) => one.from === 0 && one.to === LATE && one.protocol === protocol,
        );
        assert.ok(orphan !== undefined, `no orphan by ${protocol}: the test could not fail`);
      }
    });
  }

  test.run();

  function tell(what: string, found: readonly Orphan[]): void {
    const words = found.length === 0 ? 'no orphan' : found.map(describeOrphan).join('; ');
    process.stdout.write(`  ${qemu.version}, ${what}: ${words}\n`);
  }
}

function modeOf({ members }: RoundReport): string {
  const [first] = members;
  return [first?.capture, first?.cut].filter((word) => word !== undefined).join(', ');
}

for (const qemu of await findQemus()) cut(qemu);
