import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { daemonVersion } from '../../../../proxy/agent/vms/libvirt-pair.ts';

const test = suite('agent: pairs of libvirt and QEMU');

test('the daemon’s version counts, not the library’s', () => {
  const text = 'Using library: libvirt 12.9.0\nRunning against daemon: 11.3.0';
  assert.is(daemonVersion(text), '11.3.0');
});

test('an answer without it: unknown', () => {
  assert.is(daemonVersion('Using library: libvirt 9.0.0'), undefined);
  assert.is(daemonVersion(''), undefined);
});

test.run();
