/**
 * Finds VMs whose virtio queues are larger than their devices ask for. Debian's QEMU 10.0.13 gives
 * every queue 1024 entries; a VM that was started by it loads on 7.2 and 10.0, and is refused by
 * 11.1.3 ("VQ 0 vring.num 1024 exceeds allocated max 8", virtio_load, hw/virtio/virtio.c).
 */
import type { QmpClient } from '../../../qmp/index.ts';

/** Properties that say how many entries a device's first queue has. */
const PROPERTIES = ['rx_queue_size', 'queue-size', 'virtqueue_size'] as const;
/** The same of devices without such a property. */
const FIXED: Readonly<Record<string, number>> = {
  'virtio-rng': 8,
  'virtio-balloon': 128,
  'virtio-serial': 128,
};

/** Words for operators. */
export const LARGE_QUEUES =
  'its virtio queues have 1024 entries, as QEMU 10.0.13 of Debian makes them: its epochs load on ' +
  'QEMU 7.2 and 10.0, and QEMU 11.1 refuses them';

/** Tells whether a VM's queues are larger. One device decides: a QEMU makes all of them alike. */
export async function hasLargeQueues(qmp: QmpClient): Promise<boolean> {
  const devices = await qmp.execute('x-query-virtio').catch(() => []);
  for (const { path, name } of devices) {
    const queue = await qmp
      .execute('x-query-virtio-queue-status', { path, queue: 0 })
      .catch(() => undefined);
    const asked = FIXED[name] ?? (await firstProperty(qmp, path));
    if (queue !== undefined && asked !== undefined) return queue['vring-num-default'] > asked;
  }
  return false;
}

async function firstProperty(qmp: QmpClient, path: string): Promise<number | undefined> {
  for (const property of PROPERTIES) {
    const value = await qmp.execute('qom-get', { path, property }).catch(() => undefined);
    if (typeof value === 'number') return value;
  }
  return undefined;
}
