import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { foreignWriters } from '../../../../proxy/member/qemu/machine.ts';

const test = suite('background-support');

/** Output of QEMU 7.2, shortened. */
const TREE = [
  'bus: main-system-bus',
  '  dev: hpet, id ""',
  '      dev: virtio-mem-pci, id "vmem"',
  '          dev: virtio-mem, id ""',
  '      dev: vfio-pci, id "gpu"',
  '      dev: vhost-user-fs-pci, id ""',
  '      dev: e1000, id "vfio-not-me"',
].join('\r\n');
const NETWORK = [
  'e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:56',
  ' \\ u1: index=0,type=user,net=10.0.2.0,restrict=off',
  'nic7: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:57',
  ' \\ vu0: index=0,type=vhost-user,vhost-user0 to c0',
  'vd0: index=0,type=vhost-vdpa,vhost-vdpa0',
].join('\r\n');

test('devices that write memory past QEMU are named, and no others', () => {
  const names = foreignWriters(TREE, NETWORK).map((one) => one.split(' ').slice(0, 2).join(' '));
  assert.equal(names, [
    'virtio-mem-pci vmem',
    'vfio-pci gpu',
    'vhost-user-fs-pci writes',
    'vu0 (vhost-user)',
    'vd0 (vhost-vdpa)',
  ]);
});

test('a plain VM has no such device', () => {
  assert.equal(foreignWriters('  dev: hpet, id ""\r\n', ' \\ u1: index=0,type=user,net=1\r\n'), []);
});

test.run();
