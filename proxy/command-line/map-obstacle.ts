/** The obstacles to mapping a VM's main RAM from an image, by its options. PURE. */
import type { QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** The options of a VM. */
export interface VmOptions {
  /** Those of its command line. */
  readonly given: readonly QemuOption[];
  /** Those of files that the command line names (config-file.ts). */
  readonly fromFiles: readonly QemuOption[];
}

/**
 * Returns why main RAM cannot be mapped from an image in this VM; undefined if it can.
 * @param idstr the name of the RAM block of main RAM
 */
export function mapObstacle({ given, fromFiles }: VmOptions, idstr: string): string | undefined {
  if (idstr.includes('/')) return `its main RAM block ${idstr} belongs to a device`;
  for (const { name, value = '' } of fromFiles) {
    // The mapped backend takes the place of an option; a file cannot be changed.
    const isMainRam = name === 'object' && isMemoryBackend(value, idstr);
    if (isMainRam) return 'a -readconfig file already gives its RAM a backend';
  }
  for (const option of [...given, ...fromFiles]) {
    const obstacle = obstacleIn(option, idstr);
    if (obstacle !== undefined) return obstacle;
  }
  return undefined;
}

function obstacleIn({ name, value = '' }: QemuOption, idstr: string): string | undefined {
  switch (name) {
    case 'device':
      if (isBalloon(value)) return BALLOON;
      break;
    case 'numa':
      if (isNumaMemory(value)) return 'its RAM is split over NUMA nodes';
      break;
    case 'mem-path':
      return '-mem-path already gives its RAM a file';
    case 'mem-prealloc':
      return `-mem-prealloc ${ALL_AT_ONCE}`;
    case 'overcommit':
      if (new OptionValue(value, '').isOn('mem-lock')) return `mem-lock ${ALL_AT_ONCE}`;
      break;
    case 'object':
      return isMemoryBackend(value, idstr) ? backendObstacle(value) : undefined;
  }
  return undefined;
}

export const BALLOON = 'its balloon would take pages out of the image itself';
const ALL_AT_ONCE = 'would have QEMU take all of its memory at once, beside the image';

function backendObstacle(value: string): string | undefined {
  const backend = new OptionValue(value, 'qom-type');
  if (isShared(backend)) return 'its RAM is shared with another process';
  if (backend.isOn('prealloc')) return `prealloc ${ALL_AT_ONCE}`;
  if (backend.keys.some((key) => key.startsWith('hugetlb'))) {
    return 'its RAM is made of huge pages';
  }
  if (backend.keys.some((key) => key === 'host-nodes' || key.startsWith('host-nodes.'))) {
    return 'its RAM is bound to NUMA nodes of the host';
  }
  return undefined;
}

/** Tells whether the value of an `-object` is a memory backend of this id. */
export function isMemoryBackend(value: string, id: string): boolean {
  const object = new OptionValue(value, 'qom-type');
  const type = object.get('qom-type') ?? '';
  return type.startsWith('memory-backend-') && object.get('id') === id;
}

/** Tells whether the value of a `-numa` gives a node a memory backend of its own. */
export function isNumaMemory(value: string): boolean {
  return new OptionValue(value, 'type').get('memdev') !== undefined;
}

/**
 * Tells whether the value of a `-device` is a balloon.
 *
 * When a guest inflates one, QEMU punches holes into the file behind the guest's RAM, private
 * mapping or not (system/physmem.c, ram_block_discard_range). The epoch would lose those pages, and
 * so would every other VM that has the image mapped.
 */
export function isBalloon(value: string): boolean {
  const driver = new OptionValue(value, 'driver').get('driver') ?? '';
  return driver.startsWith('virtio-balloon');
}

/**
 * Tells whether a backend is shared. A memfd is, unless an option says that it is not
 * (backends/hostmem-memfd.c).
 */
function isShared(backend: OptionValue): boolean {
  const isMemfd = backend.get('qom-type') === 'memory-backend-memfd';
  return backend.isOn('share') || (isMemfd && backend.get('share') === undefined);
}
