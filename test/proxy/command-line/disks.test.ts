import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { withLayers } from '../../../proxy/command-line/disks.ts';
import { UmbraError } from '../../../proxy/failure/failure.ts';

const test = suite('disk command line');
const LAYER = '/vm/disk.raw.umbra-a.b-01234567.qcow2';
const DISK = {
  device: 'virtio0',
  layers: [
    { path: '/vm/disk.raw.umbra-a.b-89abcdef.qcow2', format: 'qcow2' },
    { path: '/vm/disk.raw', format: 'raw' },
  ],
  layer: LAYER,
};

function blockdevs(...nodes: string[]): string[] {
  return nodes.flatMap((node) => ['-blockdev', node]);
}

const CHANGED: readonly (readonly [before: string[], after: string[]])[] = [
  [
    ['-drive', 'file=/vm/disk.raw,format=raw,if=virtio'],
    ['-drive', `file=${LAYER},format=qcow2,if=virtio`],
  ],
  [
    ['-drive', 'file=disk.raw,if=virtio'],
    ['-drive', `file=${LAYER},if=virtio,format=qcow2`],
  ],
  [
    ['-drive', 'driver=raw,file.filename=/vm/../vm/disk.raw,id=d'],
    ['-drive', `driver=qcow2,file.filename=${LAYER},id=d`],
  ],
  [
    ['-blockdev', 'raw,node-name=d,file.driver=file,file.filename=/vm/disk.raw'],
    ['-blockdev', `qcow2,node-name=d,file.driver=file,file.filename=${LAYER}`],
  ],
  [
    [
      '-blockdev',
      '{"driver":"raw","node-name":"d","file":{"driver":"file","filename":"/vm/disk.raw"}}',
    ],
    [
      '-blockdev',
      `{"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"${LAYER}"}}`,
    ],
  ],
  [
    ['-hda', '/vm/disk.raw'],
    ['-hda', LAYER],
  ],
  [['/vm/disk.raw'], [LAYER]],
  [
    ['-drive', 'file=file:/vm/disk.raw,format=raw,if=virtio'],
    ['-drive', `file=${LAYER},format=qcow2,if=virtio`],
  ],
  [
    blockdevs('file,node-name=f,filename=/vm/disk.raw', 'raw,node-name=d,file=f,offset=0'),
    blockdevs(`file,node-name=f,filename=${LAYER}`, 'qcow2,node-name=d,file=f'),
  ],
  [
    ['-pflash', '/vm/disk.raw'],
    ['-drive', `if=pflash,file=${LAYER},format=qcow2`],
  ],
];

for (const [before, after] of CHANGED) {
  test(before.join(' '), () => {
    const line = ['qemu', '-m', '64', ...before, '-drive', 'file=/vm/other.raw,format=raw'];
    const expected = ['qemu', '-m', '64', ...after, '-drive', 'file=/vm/other.raw,format=raw'];
    assert.equal(withLayers(line, [DISK], '/vm'), expected);
  });
}

test('a disk whose file is in no option, or in two, is refused by name', () => {
  const twice = ['-drive', 'file=/vm/disk.raw', '-drive', 'file=/vm/disk.raw,id=again'];
  const file = ['-blockdev', 'file,node-name=f,filename=/vm/disk.raw'];
  const over = ['-blockdev', 'raw,file=f'];
  for (const words of [[], twice, file, [...file, ...over, ...over]]) {
    try {
      withLayers(['qemu', ...words], [DISK], '/vm');
      assert.unreachable();
    } catch (error) {
      assert.instance(error, UmbraError);
      assert.is((error as UmbraError).code, 'E_DISK_COMMAND');
      assert.match((error as UmbraError).message, 'virtio0');
    }
  }
});

test('without disks nothing changes', () => {
  assert.equal(withLayers(['qemu', '-m', '64'], [], '/'), ['qemu', '-m', '64']);
});

test.run();
