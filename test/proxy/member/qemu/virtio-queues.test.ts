import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hasLargeQueues } from '../../../../proxy/member/qemu/virtio-queues.ts';
import type { QmpClient } from '../../../../qmp/index.ts';

const test = suite('member: virtio queues');

/** Devices: the entries of the first queue, and what a property says of them. */
type Devices = Readonly<Record<string, { entries: number; property?: [string, number] }>>;

function monitor(devices: Devices): QmpClient {
  const execute = async (command: string, { path = '', property = '' } = {}) => {
    if (command === 'x-query-virtio') {
      return Object.keys(devices).map((name) => ({ name, path: `/${name}` }));
    }
    const device = devices[path.slice(1)];
    if (command === 'x-query-virtio-queue-status' && device !== undefined) {
      return { 'vring-num': device.entries, 'vring-num-default': device.entries };
    }
    if (device?.property?.[0] === property) return device.property[1];
    throw new Error('no such property');
  };
  return { execute } as unknown as QmpClient;
}

for (const [what, devices, expected] of [
  ['no virtio device', {}, false],
  ['a random generator of 10.0.2', { 'virtio-rng': { entries: 8 } }, false],
  ['the same of 10.0.13', { 'virtio-rng': { entries: 1024 } }, true],
  ['a card as asked for', { net: { entries: 256, property: ['rx_queue_size', 256] } }, false],
  ['a card with large queues', { net: { entries: 1024, property: ['rx_queue_size', 256] } }, true],
  [
    'a card that asks for large ones',
    { net: { entries: 1024, property: ['rx_queue_size', 1024] } },
    false,
  ],
  ['a disk with large queues', { blk: { entries: 1024, property: ['queue-size', 256] } }, true],
  ['an unknown device before it', { gpu: { entries: 1024 }, 'virtio-rng': { entries: 8 } }, false],
] as const satisfies readonly (readonly [string, Devices, boolean])[]) {
  test(`${what}: ${expected}`, async () => {
    assert.is(await hasLargeQueues(monitor(devices)), expected);
  });
}

test('a QEMU that has no such command: false', async () => {
  const execute = async () => {
    throw new Error('CommandNotFound');
  };
  assert.is(await hasLargeQueues({ execute } as unknown as QmpClient), false);
});

test.run();
