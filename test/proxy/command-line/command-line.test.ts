import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { machineTypeOf } from '../../../proxy/command-line/machine-type.ts';
import { mapObstacle } from '../../../proxy/command-line/map-obstacle.ts';
import { qmpSocketOf } from '../../../proxy/command-line/monitors.ts';
import { formatOptions, optionsOf, parseOptions } from '../../../proxy/command-line/option-list.ts';
import { restoreCommandLine } from '../../../proxy/command-line/restore-line.ts';

const test = suite('command line');
const TYPE = 'pc-i440fx-7.2';

function line(text: string): string[] {
  return `qemu ${text}`.split(' ');
}

const RESTORED: readonly (readonly [before: string, after: string])[] = [
  ['-machine pc -m 64', `-machine ${TYPE} -m 64 -S`],
  ['-M pc,accel=kvm -m 64', `-M ${TYPE},accel=kvm -m 64 -S`],
  ['-machine accel=tcg,type=pc', `-machine ${TYPE},accel=tcg -S`],
  ['-m 64', `-m 64 -machine ${TYPE} -S`],
  ['-machine usb=off -machine pc', `-machine usb=off -machine ${TYPE} -S`],
  ['-S -daemonize -machine pc', `-machine ${TYPE} -S`],
  ['-incoming tcp:0:4444 -machine pc', `-machine ${TYPE} -S`],
  ['--machine pc disk.img -nodefaults', `-machine ${TYPE} disk.img -nodefaults -S`],
  ['-mem-prealloc -s -machine pc', `-mem-prealloc -s -machine ${TYPE} -S`],
  ['-machine pc,x=a,,b', `-machine ${TYPE},x=a,,b -S`],
  ['-machine pc -append -S', `-machine ${TYPE} -append -S -S`],
];

for (const [before, after] of RESTORED) {
  test(`restore ${before}`, () => {
    assert.equal(restoreCommandLine(line(before), TYPE).join(' '), `qemu ${after}`);
  });
}

test('a mapped restore gives default RAM a backend named as its block', () => {
  const ram = { id: 'pc.ram', bytes: 1024, path: '/shadow/ram,0.img' };
  assert.equal(restoreCommandLine(line('-machine pc -m 64'), TYPE, { mapped: ram }).slice(5), [
    '-object',
    'memory-backend-file,id=pc.ram,size=1024,mem-path=/shadow/ram,,0.img,share=off,' +
      'x-use-canonical-path-for-ramblock-id=off',
    '-machine',
    'memory-backend=pc.ram',
    '-S',
  ]);
});

test('a backend of that name is replaced, others stay', () => {
  const before = line(
    '-object memory-backend-ram,size=64M,id=m0 -object iothread,id=m1 ' +
      '-machine pc,memory-backend=m0',
  );
  const ram = { id: 'm0', bytes: 1, path: '/x' };
  const after = restoreCommandLine(before, TYPE, { mapped: ram }).join(' ');
  assert.not.match(after, 'memory-backend-ram');
  assert.match(after, '-object iothread,id=m1');
});

const OBSTACLES: readonly (readonly [text: string, idstr: string, why: RegExp | undefined])[] = [
  ['-m 64', 'pc.ram', undefined],
  ['-m 64 -mem-prealloc', 'pc.ram', /at once/],
  ['-overcommit mem-lock=on', 'pc.ram', /at once/],
  ['-overcommit cpu-pm=on', 'pc.ram', undefined],
  ['-object memory-backend-ram,id=m0,prealloc=on', 'm0', /at once/],
  ['-object id=m0,qom-type=memory-backend-ram,host-nodes=0,policy=bind', 'm0', /NUMA nodes of/],
  ['-object memory-backend-ram,id=m0,size=1', 'm0', undefined],
  ['-object memory-backend-memfd,id=m0,size=1,share=on', 'm0', /shared/],
  ['-object memory-backend-memfd,id=m0,hugetlb=on,share=off', 'm0', /huge/],
  ['-object memory-backend-memfd,id=m0', 'm0', /shared/],
  ['-object {"qom-type":"memory-backend-memfd","id":"m0"}', 'm0', /shared/],
  ['-object {"qom-type":"memory-backend-ram","id":"m0"}', 'm0', undefined],
  ['-object memory-backend-memfd,id=other,share=on', 'pc.ram', undefined],
  ['-numa node,memdev=m0', 'm0', /NUMA/],
  ['-mem-path /dev/hugepages', 'pc.ram', /-mem-path/],
  ['-device virtio-balloon-pci,id=b0', 'pc.ram', /balloon/],
  ['-device {"driver":"virtio-balloon-pci-non-transitional"}', 'pc.ram', /balloon/],
  ['-device virtio-net-pci,id=virtio-balloon', 'pc.ram', undefined],
  ['-m 64', '0000:00:02.0/vga.vram', /device/],
];

for (const [text, idstr, why] of OBSTACLES) {
  test(`map ${idstr} of ${text}: ${why ?? 'fine'}`, () => {
    const obstacle = mapObstacle({ given: optionsOf(line(text)), fromFiles: [] }, idstr);
    if (why === undefined) assert.is(obstacle, undefined);
    else assert.match(obstacle ?? '', why);
  });
}

test('file descriptors exist only once: options with them are refused', () => {
  for (const text of [
    '-netdev tap,id=n,fd=3',
    '-add-fd fd=3,set=1',
    '-netdev tap,vhostfd=4',
    '-netdev {"type":"tap","fd":"3"}',
  ]) {
    assert.throws(
      () => restoreCommandLine(line(text), TYPE),
      (error: { code?: string }) => error.code === 'E_COMMAND_LINE',
    );
  }
  const harmless = line('-append cfd=1 -machine pc');
  assert.ok(restoreCommandLine(harmless, TYPE).includes('cfd=1'));
});

test('the monitor’s socket and the machine type are found', () => {
  assert.is(qmpSocketOf(line('-m 1 -qmp unix:/a,,b/q.sock,server=on,wait=off')), '/a,b/q.sock');
  assert.is(qmpSocketOf(line('-qmp tcp:localhost:4444')), undefined);
  assert.is(machineTypeOf(line('-machine accel=tcg -M q35')), 'q35');
  assert.is(machineTypeOf(line('-m 64')), undefined);
});

test('a word that is no option is unchanged', () => {
  const words = ['-', 'disk.img', '--', '---x', '-m', '64', '--nographic', ''];
  assert.equal(formatOptions(parseOptions(words)), words.with(6, '-nographic'));
});

test.run();
