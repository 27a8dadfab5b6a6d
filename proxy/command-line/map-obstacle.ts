/** The obstacles to mapping a VM's main RAM from an image, by its command line. PURE. */
import { optionsOf } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/**
 * Returns why main RAM cannot be mapped from an image in this VM; undefined if it can.
 * @param idstr the name of the RAM block of main RAM
 */
export function mapObstacle(commandLine: readonly string[], idstr: string): string | undefined {
  if (idstr.includes('/')) return `its main RAM block ${idstr} belongs to a device`;
  for (const { name, value = '' } of optionsOf(commandLine)) {
    if (name === 'device' && isBalloon(value)) {
      return 'its balloon would take pages out of the image itself';
    }
    if (name === 'numa' && isNumaMemory(value)) return 'its RAM is split over NUMA nodes';
    if (name === 'mem-path') return '-mem-path already gives its RAM a file';
    if (name !== 'object' || !isMemoryBackend(value, idstr)) continue;
    const backend = new OptionValue(value, 'qom-type');
    if (isShared(backend)) return 'its RAM is shared with another process';
    if (backend.keys.some((key) => key.startsWith('hugetlb'))) {
      return 'its RAM is made of huge pages';
    }
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
