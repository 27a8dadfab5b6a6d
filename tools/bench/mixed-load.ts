/** Four VMs as unlike as those of a real cluster, and what keeps them busy. */
import type { FileSections } from '../testbed/cluster-file.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';

export interface LoadedVm {
  readonly what: string;
  readonly memoryMiB: number;
  /** Arguments of the guest's `dirty`, none for an idle VM. */
  readonly dirty: string;
}

export const MIXED: readonly LoadedVm[] = [
  { what: 'idle', memoryMiB: 256, dirty: '' },
  { what: 'busy', memoryMiB: 512, dirty: '--size-mib 64 --rate-mib 60 --pattern random' },
  {
    what: 'large working set',
    memoryMiB: 1024,
    dirty: '--size-mib 512 --rate-mib 30 --pattern sequential',
  },
  { what: 'bursty', memoryMiB: 512, dirty: '--size-mib 128 --rate-mib 30 --pattern burst' },
];

export const MIXED_RAM_BYTES = MIXED.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0) * 2 ** 20;

/** Boots the four, their loads running and their memory filled. The caller's to dispose. */
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
    for (const [node, { dirty }] of MIXED.entries()) {
      if (dirty !== '') await bed.shell(node, `dirty ${dirty} >/run/dirty.log 2>&1 &`);
    }
    for (const node of MIXED.keys()) await filled(bed, node);
    return bed;
  } catch (error) {
    await bed.dispose();
    throw error;
  }
}

/** A guest has filled its memory when its free memory shrinks no more. */
export async function filled(bed: Testbed, node: number): Promise<void> {
  const guest = await bed.guest(node);
  for (let before = Number.POSITIVE_INFINITY; ; ) {
    const { output } = await guest.run("sleep 1; awk '/MemFree/ {print $2}' /proc/meminfo");
    const free = Number(output);
    if (before - free < 1024) return;
    before = free;
  }
}
