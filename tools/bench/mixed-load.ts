/** Four VMs with different sizes and loads, as in a real cluster. */
import type { FileSections } from '../testbed/cluster-file.ts';
import type { DirtyOptions } from '../testbed/dirty.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';

export interface LoadedVm {
  readonly what: string;
  readonly memoryMiB: number;
  /** Memory that the VM rewrites; undefined for an idle VM. */
  readonly dirty: DirtyOptions | undefined;
}

export const MIXED: readonly LoadedVm[] = [
  { what: 'idle', memoryMiB: 256, dirty: undefined },
  { what: 'busy', memoryMiB: 512, dirty: { sizeMiB: 64, rateMiB: 60, pattern: 'random' } },
  {
    what: 'large working set',
    memoryMiB: 1024,
    dirty: { sizeMiB: 512, rateMiB: 30 },
  },
  { what: 'bursty', memoryMiB: 512, dirty: { sizeMiB: 128, rateMiB: 30, pattern: 'burst' } },
];

export const MIXED_RAM_BYTES = MIXED.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0) * 2 ** 20;

/** Boots the four VMs, starts their loads and fills their memory. The caller disposes of them. */
export async function mixedBed(settings: FileSections, store?: string): Promise<Testbed> {
  const bed = await Testbed.create({
    nodes: MIXED.length,
    memoryMiB: MIXED.map(({ memoryMiB }) => memoryMiB),
    watch: true,
    qemu: await newestQemu(),
    settings: store === undefined ? settings : { ...settings, store: { directory: store } },
  });
  try {
    await bed.up();
    await Promise.all(MIXED.map(({ dirty }, node) => dirty && bed.dirty(node, dirty)));
    return bed;
  } catch (error) {
    await bed.dispose();
    throw error;
  }
}
