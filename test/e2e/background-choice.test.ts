/**
 * The choice of a VM's capture, found out by trying. The obstacle to background capture is named by
 * the checkpoint and by `umbra doctor`; another capture is used only if the configuration names
 * one.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { findQemus } from '../../tools/qemu/qemu.ts';
import { verifyMemory } from '../../tools/testbed/dirty.ts';
import { untilHuge } from '../../tools/testbed/huge-pages.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { tickers } from '../support/job.ts';

/** Options for a disk that the guest can write to. */
const DISK = [
  '-blockdev',
  'driver=null-co,node-name=d0,size=1048576',
  '-device',
  'virtio-blk-pci,drive=d0',
];
const MEMORY_MIB = 192;
/**
 * Options for a network card with two queues. QEMU's filters support one queue only. `umbra-many`
 * is a network interface of the host, which disappears with QEMU.
 */
const TWO_QUEUES = [
  '-netdev',
  `tap,id=many,ifname=umbra-many,queues=2,script=no,downscript=no`,
  '-device',
  'virtio-net-pci,netdev=many,mq=on',
];
/** Share of huge pages to expect: joining one fails while another process uses one of its pages. */
const NEARLY_ALL = 0.98;
/** Options for memory that another process could write to. */
const SHARED = [
  '-object',
  `memory-backend-memfd,id=ram0,size=${MEMORY_MIB}M,share=on`,
  '-machine',
  'memory-backend=ram0',
];

interface Doctor {
  readonly findings: readonly { check: string; verdict: string; found: string }[];
}

const test = suite('background choice');
let bed: Testbed | undefined;

test.after.each(async () => {
  await bed?.dispose();
  bed = undefined;
});

for (const qemu of await findQemus()) {
  test(`QEMU ${qemu.version}: a writable disk is refused, or captured otherwise`, async () => {
    const settings = { round: { capture: 'background' } };
    bed = await Testbed.create({
      nodes: 1,
      memoryMiB: MEMORY_MIB,
      qemu,
      more: DISK,
      settings,
    });
    await bed.up();
    const refused = await bed.umbra('checkpoint', '--json');
    assert.is(refused.code, 1);
    const { failure } = JSON.parse(refused.stdout.trim().split('\n').at(-1) ?? '') as {
      failure: Failure;
    };
    assert.is(failure.code, 'E_BACKGROUND_DISKS');
    assert.match(failure.message, /d0|virtio/);
    assert.match(failure.hint ?? '', /read-only/);

    const { findings } = await bed.json<Doctor>('doctor');
    const found = findings.find(({ check }) => check === 'demo/n0');
    assert.is(found?.verdict, 'note');
    assert.match(found?.found ?? '', /no background capture: .*disk/);

    await bed.reconfigure({ round: { capture: ['background', 'stop-copy'] } });
    const { members } = await bed.json<RoundReport>('checkpoint');
    assert.is(members[0]?.capture, 'stop-copy');
    assert.match(members[0]?.captureReason ?? '', /no background snapshot: .*disk/);
    const { stdout } = await bed.umbra('report');
    assert.match(stdout, /n0 by stop-copy: no background snapshot/);
  });

  test(`QEMU ${qemu.version}: it is selected where it works, and rejoins huge pages`, async () => {
    const capture = ['background', 'precopy', 'stop-copy'];
    const round = (hugePages: string) => ({ round: { capture, hugePages } });
    const settings = round('used');
    bed = await Testbed.create({ nodes: 1, memoryMiB: MEMORY_MIB, qemu, settings });
    await bed.up();
    const [before] = await tickers(bed);
    const { members } = await bed.json<RoundReport>('checkpoint');
    assert.ok(members.every(({ capture }) => capture === 'background'));
    assert.ok(members.every(({ captureReason }) => captureReason === undefined));

    const bytes = MEMORY_MIB * 2 ** 20;
    const used = await untilHuge(bed.pid(0), bytes, 1);
    // This host has enough memory: pages that the guest has never used are joined, too.
    await bed.reconfigure(round('auto'));
    await bed.json('checkpoint');
    assert.ok((await untilHuge(bed.pid(0), bytes, bytes * NEARLY_ALL)) > used);

    // Joined pages keep their content, also for the next snapshot.
    await bed.json('checkpoint');
    bed.hangUp();
    await bed.json('restore', '--replace');
    const [after] = await tickers(bed);
    assert.is(after?.nonce, before?.nonce);
  });

  test(`QEMU ${qemu.version}: auto tracks a VM where precopy can be its base`, async () => {
    const settings = { round: { capture: 'auto' } };
    bed = await Testbed.create({ nodes: 1, memoryMiB: MEMORY_MIB, qemu, settings });
    await bed.up();
    const captures: (string | undefined)[] = [];
    for (let epoch = 1; epoch <= 3; epoch++) {
      const { members } = await bed.json<RoundReport>('checkpoint');
      captures.push(members[0]?.capture);
    }
    // Emulated, QEMU before 9.0 has no precopy: stop-copy alone could be the base.
    const isTracked = Number(qemu.version.split('.')[0]) >= 9;
    const wanted = isTracked ? ['precopy', 'tracked', 'tracked'] : Array(3).fill('background');
    assert.equal(captures, wanted);
    const { findings } = await bed.json<Doctor>('doctor');
    const found = findings.find(({ check }) => check === 'demo/n0')?.found ?? '';
    assert.is(/umbra untrack n0/.test(found), isTracked, found);
    const answer = await bed.json('untrack', 'n0');
    assert.equal(answer, { member: 'n0', wasTracked: isTracked });
  });

  test(`QEMU ${qemu.version}: all-stopped or stop-copy if frames cannot be held`, async () => {
    const settings = { round: { capture: ['background', 'precopy', 'stop-copy'] } };
    bed = await Testbed.create({
      nodes: 1,
      memoryMiB: MEMORY_MIB,
      qemu,
      more: TWO_QUEUES,
      settings,
    });
    await bed.up();
    const { members } = await bed.json<RoundReport>('checkpoint');
    const [{ capture, captureReason, cut } = {}] = members;
    if (Number(qemu.version.split('.')[0]) >= 9) {
      assert.equal([capture, captureReason, cut], ['background', undefined, 'all-stopped']);
    } else {
      assert.is(capture, 'stop-copy');
      assert.match(captureReason ?? '', /lets a stopped VM run.*frames of many cannot be held/);
    }
  });

  test(`QEMU ${qemu.version}: shared memory, too, is saved as of the cut`, async () => {
    const settings = { round: { capture: 'background' } };
    bed = await Testbed.create({
      nodes: 1,
      memoryMiB: MEMORY_MIB,
      qemu,
      more: SHARED,
      settings,
    });
    await bed.up();
    const { findings } = await bed.json<Doctor>('doctor');
    assert.not.match(findings.find(({ check }) => check === 'demo/n0')?.found ?? '', /background/);
    await bed.dirty(0, { sizeMiB: 64, rateMiB: 100 });
    const { members } = await bed.json<RoundReport>('checkpoint');
    assert.is(members[0]?.capture, 'background');
    bed.killAll();
    await bed.json('restore');
    assert.match(await bed.shell(0, verifyMemory()), /verified/, 'a torn memory would not');
  });
}

test.run();
