/**
 * VMs as people run them (test/support/shapes.ts): each either gives an epoch that comes back, by
 * map, by stream and as a clone, or is refused before anything is stopped, with the reason. Several
 * shapes are members of one cluster where nothing is refused.
 */
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import * as assert from 'uvu/assert';
import { stringify } from 'yaml';
import type { Failure } from '../../proxy/failure/failure.ts';
import { startTimeOf } from '../../proxy/host/known-process.ts';
import { opensSince, watchOpens } from '../../proxy/host/libc.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import type { ClusterStatus } from '../../proxy/protocol/status.ts';
import { findNextQemu, findQemus, type QemuBinary } from '../../tools/qemu/qemu.ts';
import { Testbed } from '../../tools/testbed/testbed.ts';
import { buildTinyGuest, TinyGuest } from '../../tools/testbed/tiny/tiny-guest.ts';
import { commandLine, type Shape, ShapeVm } from '../support/shape.ts';
import {
  CHANGED,
  DEVICES,
  DISKS,
  isOf,
  MEMORY,
  REFUSED,
  SETTINGS,
  SHARED,
} from '../support/shapes.ts';
import { suite } from '../support/suite.ts';

/** VMs of one cluster: more would crowd two cores, fewer would cost a daemon each. */
const TOGETHER = 6;
/** Ends what would never end. */
const LIMIT_MS = 300_000;
/**
 * Shapes that come back on every QEMU, that of the next Debian release too. All do on the second
 * one; with `UMBRA_SHAPES=all`, on each.
 */
const SAMPLE = 2 * TOGETHER;
const REFUSED_SAMPLE = 4;

interface Finding {
  readonly check: string;
  readonly verdict: string;
  readonly found: string;
}

function realVms(qemu: QemuBinary, isWhole: boolean): void {
  const test = suite(`real VMs on QEMU ${qemu.version}`);
  let bed: Testbed;
  let kernel = '';

  test.before.each(async () => {
    bed = Testbed.empty(qemu);
    kernel = await buildTinyGuest(bed.home);
  });
  test.after.each(async () => {
    await bed.umbra('down', '--cluster', 'twin', '--purge');
    await bed.umbra('down', '--cluster', 'real', '--purge');
    await bed.dispose();
  });

  /** Starts VMs as their owners do, and attaches them. */
  async function attach(shapes: readonly Shape[]): Promise<ShapeVm[]> {
    const vms = shapes.map((shape) => new ShapeVm(shape, bed, qemu, kernel));
    for (const vm of vms) assert.match(await vm.verify(), /^ok /, vm.shape.name);
    const places = vms.map((vm) => `${vm.shape.name}=${vm.monitorSocket}`);
    await bed.json('attach', '--cluster', 'real', ...places);
    for (const { shape, withMonitor, folder } of vms) {
      await withMonitor(async (monitor) => shape.change?.(monitor, folder));
    }
    return vms;
  }

  /** Kills every VM, and brings the cluster back. */
  async function restoreBy(
    mode: 'auto' | 'stream',
    vms: readonly ShapeVm[],
  ): Promise<RestoreReport> {
    for (const { shape } of vms) process.kill(pidOf(bed, shape.name), 'SIGKILL');
    const options = ['--cluster', 'real', '--replace', '--mode', mode];
    const report = await bed.json<RestoreReport>('restore', ...options);
    for (const vm of vms) assert.match(await vm.verify(), /^ok /, `${vm.shape.name} by ${mode}`);
    return report;
  }

  async function findings(): Promise<Finding[]> {
    const { stdout } = await bed.umbra('doctor', '--json');
    const { findings } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as {
      findings: Finding[];
    };
    return findings;
  }

  const whole = [...MEMORY, ...DEVICES, ...DISKS, ...CHANGED, ...SETTINGS]
    .filter((shape) => shape.refused === undefined && isOf(shape, qemu.version))
    // One that cannot be cloned would keep a whole cluster from being cloned.
    .sort(
      (one, two) => Number(one.cloneRefused !== undefined) - Number(two.cloneRefused !== undefined),
    );
  const tried = isWhole ? whole : sampleOf(whole, SAMPLE);
  for (let at = 0; at < tried.length; at += TOGETHER) {
    const shapes = tried.slice(at, at + TOGETHER);
    test(`come back: ${shapes.map(({ name }) => name).join(', ')}`, async () => {
      const vms = await attach(shapes);
      const { outcome, failure } = await bed.json<RoundReport>('checkpoint');
      assert.is(outcome, 'committed', failure?.message);
      for (const vm of vms) assert.match(await vm.verify(), /^ok /, vm.shape.name);
      const { members } = await restoreBy('auto', vms);
      for (const { name, restored = 'map', reason } of shapes) {
        const member = members.find((one) => one.member === name);
        assert.is(member?.mode, restored, `${name}: ${member?.reason}`);
        if (reason !== undefined) assert.match(member?.reason ?? '', reason);
      }
      await restoreBy('stream', vms);
      const clonable = shapes.every(({ cloneRefused }) => cloneRefused === undefined);
      const clone = await bed.umbra('restore', '--as', 'twin', '--json');
      assert.is(clone.code === 0, clonable, clone.stdout.slice(-500));
      if (!clonable) return;
      for (const { shape, verify } of vms) {
        const serial = join(bed.home, 'twin', 'vm', shape.name, 'serial.sock');
        assert.match(await verify(serial), /^ok /, `the clone of ${shape.name}`);
      }
    });
  }

  const refused = [...CHANGED, ...REFUSED].filter(
    (one) => one.refused !== undefined && isOf(one, qemu.version),
  );
  for (const shape of isWhole ? refused : sampleOf(refused, REFUSED_SAMPLE)) {
    test(`refused: ${shape.name}`, async () => {
      const [vm] = await attach([shape]);
      const told = (await findings()).find(({ check }) => check === `real/${shape.name}`);
      assert.is(told?.verdict, 'note', 'doctor says so beforehand');
      assert.match(told?.found ?? '', shape.says ?? /./);
      const { code, stdout } = await bed.umbra('checkpoint', '--json');
      assert.is(code, 1);
      const { failure } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as {
        failure: Failure;
      };
      assert.is(failure.code, shape.refused, failure.message);
      assert.match(failure.message, shape.says ?? /./);
      assert.is(failure.member, shape.name);
      assert.ok(failure.hint);
      assert.match((await vm?.verify()) ?? '', /^ok /, 'the VM runs on');
    });
  }

  test('two members may not share a disk that one of them writes to', async () => {
    await attach(SHARED(bed.home));
    const { code, stdout } = await bed.umbra('checkpoint', '--json');
    assert.is(code, 1);
    assert.match(stdout, /E_DISK_SHARED/);
    assert.match(stdout, /writer/);
    assert.match(stdout, /reader/);
  });

  test('a monitor is found by a symbolic link to its socket', async () => {
    const vm = new ShapeVm({ name: 'linked', options: '' }, bed, qemu, kernel);
    await vm.verify();
    const link = join(bed.home, 'link.sock');
    symlinkSync(vm.monitorSocket, link);
    await bed.json('attach', '--cluster', 'real', `linked=${link}`);
    const { outcome } = await bed.json<RoundReport>('checkpoint');
    assert.is(outcome, 'committed');
  });

  test('a QEMU that is told to go into the background belongs to its cluster', async () => {
    const shape = { name: 'behind', options: '-daemonize' };
    const folder = join(bed.home, 'real', 'vm', shape.name);
    const command = commandLine(shape, qemu, kernel, folder);
    writeFileSync(bed.file, stringify({ cluster: 'real', members: [{ name: 'behind', command }] }));
    await bed.json('up', bed.file);
    const pid = pidOf(bed, 'behind');
    assert.is.not(startTimeOf(pid), undefined, 'the process that is recorded runs');
    await bed.json('down', '--cluster', 'real', '--purge');
    assert.is(startTimeOf(pid), undefined, 'and is ended with its cluster');
  });

  /** Starts a VM of a cluster's own by a script that runs QEMU. @returns its serial line */
  async function upByScript(script: string): Promise<string> {
    const program = join(bed.home, 'qemu');
    writeFileSync(program, script, { mode: 0o700 });
    return upBy(program);
  }

  /** Starts a VM of a cluster's own by a program, and checkpoints it. @returns its serial line */
  async function upBy(program: string): Promise<string> {
    const folder = join(bed.home, 'real', 'vm', 'own');
    const [, ...words] = commandLine({ name: 'own', options: '' }, qemu, kernel, folder);
    const command = [program, ...words];
    writeFileSync(bed.file, stringify({ cluster: 'real', members: [{ name: 'own', command }] }));
    await bed.json('up', bed.file);
    const serial = join(folder, 'serial.sock');
    assert.match(await verifyAt(serial), /^ok /);
    await bed.json('checkpoint');
    return serial;
  }

  /** Returns a script that does something first, and then runs QEMU in its place. */
  function runsQemu(first: string): string {
    return `#!/bin/sh\n${first}\nexec ${qemu.binary} "$@"\n`;
  }

  test('what does not load by map is loaded by stream, and the report says why', async () => {
    const refuses = 'echo "no file here" >&2; exit 1';
    const serial = await upByScript(
      runsQemu(`case "$*" in *memory-backend-file*) ${refuses};; esac`),
    );
    process.kill(pidOf(bed, 'own'), 'SIGKILL');
    const insists = await bed.umbra('restore', '--replace', '--mode', 'map', '--json');
    assert.match(insists.stdout, /E_LOAD_FAILED.*no file here/);
    const { members } = await bed.json<RestoreReport>('restore', '--replace');
    assert.is(members[0]?.mode, 'stream');
    assert.match(members[0]?.reason ?? '', /by map it did not load: .*no file here/);
    assert.match(await verifyAt(serial), /^ok /);
  });

  test('a QEMU that was upgraded underneath is told; the old one brings its VM back', async () => {
    const other = qemus.find(({ version }) => version !== qemu.version);
    if (other === undefined) throw new Error('there is one QEMU only');
    const program = join(bed.home, 'usr', 'bin', 'qemu-system-x86_64');
    mkdirSync(dirname(program), { recursive: true });
    for (const beside of ['share', 'lib']) {
      symlinkSync(join(qemu.binary, '..', '..', beside), join(bed.home, 'usr', beside));
    }
    copyFileSync(qemu.binary, program);
    const serial = await upBy(program);
    copyFileSync(other.binary, `${program}.new`);
    renameSync(`${program}.new`, program);

    const upgraded = new RegExp(`it runs on QEMU ${qemu.version}; .* is QEMU ${other.version} now`);
    const status = await bed.json<ClusterStatus>('status');
    assert.match(status.members[0]?.note ?? '', upgraded);
    const told = (await findings()).find(({ check }) => check === 'real/own');
    assert.match(told?.found ?? '', upgraded);
    for (const mode of ['map', 'stream'] as const) {
      process.kill(pidOf(bed, 'own'), 'SIGKILL');
      const options = ['--replace', '--qemu', 'recorded', '--mode', mode];
      const { members } = await bed.json<RestoreReport>('restore', ...options);
      assert.is(members[0]?.note, `on the QEMU ${qemu.version} that it ran on`);
      const running = `/proc/${pidOf(bed, 'own')}/exe`;
      assert.equal(readFileSync(running), readFileSync(qemu.binary));
      assert.match(await verifyAt(serial), /^ok /);
    }
    await bed.json('checkpoint');
    rmSync(join(bed.home, 'real', 'qemu'), { recursive: true });
    const options = ['--replace', '--qemu', 'recorded', '--json'];
    const { stdout } = await bed.umbra('restore', ...options);
    assert.match(stdout, /E_QEMU_NOT_KEPT/);
    assert.match(await verifyAt(serial), /^ok /, 'the VM runs on');
  });

  test('a VM that runs is not killed for another QEMU that does not load its epoch', async () => {
    const serial = await upByScript(runsQemu(''));
    const other = 'case "$1" in --version) echo "QEMU emulator version 99.0.0"; exit;; esac';
    const fails = 'case "$*" in *-incoming*) echo "what stream?" >&2; exit 1;; esac';
    writeFileSync(join(bed.home, 'qemu'), runsQemu(`${other}\n${fails}`), { mode: 0o700 });
    const pid = pidOf(bed, 'own');
    const { code, stdout } = await bed.umbra('restore', '--replace', '--json');
    assert.is(code, 1);
    assert.match(stdout, /E_PROOF_FAILED.*what stream/);
    assert.is(pidOf(bed, 'own'), pid);
    assert.match(await verifyAt(serial), /^ok /);
  });

  test('a balloon that is inflated takes nothing from an epoch', async () => {
    const shapes = [
      { name: 'balloon', options: '-device virtio-balloon-pci,id=b0' },
      { name: 'without', options: '' },
    ];
    const vms = await attach(shapes);
    await bed.json('checkpoint');
    const { members } = await restoreBy('auto', vms);
    const mapped = members.filter(({ mode }) => mode === 'map').map(({ member }) => member);
    assert.equal(mapped, ['without']);
    await bed.json('restore', '--as', 'twin');
    // Before 8.2 one that is plugged in could reach the file (LIMITS); the next round refuses.
    const plugs = !isOlder(qemu.version, '8.2');
    for (const { shape, folder, withMonitor } of vms) {
      if (shape.name === 'without') {
        if (!plugs) continue;
        const driver = 'virtio-balloon-pci';
        await withMonitor((monitor) => monitor('device_add', { driver, id: 'b1' }));
      }
      const serial = join(folder, 'serial.sock');
      assert.is(await ask(serial, (guest) => guest.inflate(LIMIT_MS)), 'given 00000400');
      // Memory that QEMU has mapped for reading only is not given back at all.
      const left = shape.name === 'without' ? /^ok / : /^bad /;
      assert.match(await verifyAt(serial), left, shape.name);
    }
    await bed.json('verify', '1', '--cluster', 'real');
    for (const { shape, verify } of vms) {
      const serial = join(bed.home, 'twin', 'vm', shape.name, 'serial.sock');
      assert.match(await verify(serial), /^ok /, `the clone of ${shape.name}`);
    }
    await restoreBy('auto', vms);
  });

  test('an epoch is proven beside the running VMs', async () => {
    const shapes = [...MEMORY, ...DEVICES, ...DISKS].filter(({ proven = true }) => proven);
    const vms = await attach(shapes.filter((one) => isOf(one, qemu.version)).slice(0, TOGETHER));
    const { outcome, failure, proof } = await bed.json<RoundReport>('checkpoint', '--prove');
    assert.is(outcome, 'committed', failure?.message);
    assert.is(proof?.length, vms.length);
    for (const { member, mode, notProven } of proof ?? [])
      assert.ok(mode, `${member}: ${notProven}`);
    for (const vm of vms) assert.match(await vm.verify(), /^ok /, vm.shape.name);
  });

  test('a proof opens no disk, and reaches no network', async () => {
    const [disk, socket] = [join(bed.home, 'disk.img'), join(bed.home, 'net.sock')];
    writeFileSync(disk, Buffer.alloc(2 ** 20));
    let [connections, bytes] = [0, 0];
    const network = createServer((peer) => {
      connections++;
      peer.on('data', (frames) => {
        bytes += frames.length;
      });
    }).listen(socket);
    await once(network, 'listening');
    const opens = watchOpens(disk);
    try {
      const card = `stream,id=n0,server=off,addr.type=unix,addr.path=${socket}`;
      const options = [
        `-drive file=${disk},format=raw,if=virtio`,
        `-netdev ${card} -device virtio-net-pci,netdev=n0`,
      ].join(' ');
      const vms = await attach([{ name: 'one', options }]);
      assert.ok(opensSince(opens) > 0, 'the VM’s own');
      assert.is(connections, 1, 'the VM’s own');
      await bed.json('checkpoint');
      assert.ok(opensSince(opens) > 0, 'the VM’s QEMU opens it anew when a migration ends');
      await bed.json('checkpoint'); // a tracked one, where VMs can be tracked: no migration
      const withoutProof = opensSince(opens);
      const { proof } = await bed.json<RoundReport>('checkpoint', '--prove');
      assert.ok(proof?.[0]?.mode, proof?.[0]?.notProven);
      assert.is(opensSince(opens), withoutProof);
      assert.equal([connections, bytes], [1, 0]);
      await restoreBy('auto', vms);
      assert.ok(opensSince(opens) > 0, 'a restore opens it');
      assert.is(connections, 2, 'a restore connects');
    } finally {
      closeSync(opens);
      network.close();
    }
  });

  test.run();
}

/** Returns shapes from all over the list. */
function sampleOf(shapes: readonly Shape[], most: number): readonly Shape[] {
  const every = Math.ceil(shapes.length / most);
  return shapes.filter((_, index) => index % every === 0);
}

function isOlder(one: string, two: string): boolean {
  return one.localeCompare(two, 'en', { numeric: true }) < 0;
}

function verifyAt(serial: string): Promise<string> {
  return ask(serial, (guest) => guest.verify(LIMIT_MS));
}

/** Asks a tiny guest by its serial line. */
async function ask(
  serial: string,
  question: (guest: TinyGuest) => Promise<string>,
): Promise<string> {
  const guest = await TinyGuest.connect(serial, LIMIT_MS);
  try {
    return await question(guest);
  } finally {
    guest.close();
  }
}

function pidOf(bed: Testbed, member: string): number {
  const note = readFileSync(join(bed.home, 'real', 'vm', member, 'vm.json'), 'utf8');
  return (JSON.parse(note) as { pid: number }).pid;
}

const installed = await findQemus();
const newest = installed.reduce((one, two) => (isOlder(one.version, two.version) ? two : one));
const next = await findNextQemu();
const qemus = next === undefined ? installed : [...installed, next];
for (const qemu of qemus) realVms(qemu, qemu === newest || process.env.UMBRA_SHAPES === 'all');
