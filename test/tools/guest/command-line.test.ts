import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type GuestMachine, guestCommandLine } from '../../../tools/guest/command-line.ts';

const machine: GuestMachine = {
  qemu: { version: '10.0.2', binary: '/q/bin/qemu', args: ['-L', '/q/share'] },
  image: { kernel: '/i/vmlinuz', initrd: '/i/initrd.zst', key: 'k' },
  accel: 'tcg',
  memoryMiB: 192,
  node: 1,
  nodes: 4,
  dir: '/run/m1',
};

/** Returns the value of every occurrence of an option. */
function values(argv: readonly string[], option: string): string[] {
  return argv.flatMap((word, i) => (word === option ? [argv[i + 1] ?? ''] : []));
}

test('the program comes first, then its options to find its files', () => {
  assert.equal(guestCommandLine(machine).slice(0, 3), ['/q/bin/qemu', '-L', '/q/share']);
});

test('the sockets are at their fixed paths in the VM’s folder', () => {
  const argv = guestCommandLine(machine);
  assert.equal(values(argv, '-qmp'), ['unix:/run/m1/qmp.sock,server=on,wait=off']);
  assert.equal(values(argv, '-serial'), [
    'file:/run/m1/console.log',
    'unix:/run/m1/control.sock,server=on,wait=off',
  ]);
  assert.equal(values(argv, '-netdev'), [
    'stream,id=net0,server=on,addr.type=unix,addr.path=/run/m1/net.sock',
  ]);
});

test('runs at once and in the foreground', () => {
  const argv = guestCommandLine(machine);
  for (const unwanted of ['-S', '-daemonize', '-incoming']) assert.not(argv.includes(unwanted));
});

test('a placeholder for the folder is kept as it is', () => {
  const argv = guestCommandLine({ ...machine, dir: '{dir}' });
  assert.equal(values(argv, '-qmp'), ['unix:{dir}/qmp.sock,server=on,wait=off']);
  assert.not(argv.join(' ').includes('/run/m1'));
});

test("a comma in the folder's name does not become an option", () => {
  const argv = guestCommandLine({ ...machine, dir: '/run/a,b' });
  assert.equal(values(argv, '-qmp'), ['unix:/run/a,,b/qmp.sock,server=on,wait=off']);
});

test('the guest is told its own identity', () => {
  const [append = ''] = values(guestCommandLine(machine), '-append');
  assert.match(append, / node=1 nodes=4$/);
});

test('a clock that needs no calibration is chosen under TCG only', () => {
  const [tcg = ''] = values(guestCommandLine(machine), '-append');
  const [kvm = ''] = values(guestCommandLine({ ...machine, accel: 'kvm' }), '-append');
  assert.match(tcg, 'clocksource=acpi_pm');
  assert.not.match(kvm, 'clocksource');
  assert.equal(values(guestCommandLine(machine), '-accel'), ['tcg,tb-size=64']);
  assert.equal(values(guestCommandLine({ ...machine, accel: 'kvm' }), '-accel'), ['kvm']);
});

test('no two guests of a large cluster share an address or an identity', () => {
  const lines = Array.from({ length: 600 }, (_, node) => guestCommandLine({ ...machine, node }));
  const macs = lines.map((argv) => /mac=([0-9a-f:]{17}),/.exec(argv.join(' '))?.[1]);
  const uuids = lines.flatMap((argv) => values(argv, '-uuid'));
  assert.is(new Set(macs).size, 600);
  assert.not(macs.includes(undefined));
  assert.is(new Set(uuids).size, 600);
  for (const uuid of uuids) assert.match(uuid, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
});

test('macIndex sets the address apart from the node', () => {
  const argv = guestCommandLine({ ...machine, macIndex: 0x1234 }).join(' ');
  assert.match(argv, 'mac=52:54:00:75:12:34,');
  assert.match(argv, 'node=1 ');
});

test.run();
