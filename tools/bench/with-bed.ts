/** Lends a cluster of our guests, on the newest QEMU, to a measurement. */
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed, type TestbedOptions } from '../testbed/testbed.ts';

/** Boots a cluster, lends it, and ends it whatever happens. */
export async function withBed<T>(
  options: Omit<TestbedOptions, 'qemu'>,
  use: (bed: Testbed) => Promise<T>,
): Promise<T> {
  const bed = await Testbed.create({ ...options, qemu: await newestQemu() });
  try {
    await bed.up();
    return await use(bed);
  } finally {
    await bed.dispose();
  }
}
