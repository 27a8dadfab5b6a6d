import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { statefulNetworks } from '../../../../proxy/member/qemu/machine.ts';

const test = suite('machine');

test('backends of type user are found by id, wherever QEMU lists them', () => {
  const table = `virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56
 \\ u1: index=0,type=user,net=10.0.2.0,restrict=off
hub 0
 \\ hub0port1: #net199: index=0,type=user,net=10.0.2.0,restrict=off
 \\ hub0port0: u2: index=0,type=user,net=10.0.2.0,restrict=off
e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:57
 \\ s1: index=0,type=stream,unix:/user
unused: index=0,type=user,net=10.0.2.0,restrict=off
`;
  assert.equal(statefulNetworks(table), ['u1', 'u2', 'unused']);
});

test.run();
