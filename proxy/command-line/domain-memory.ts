/**
 * Where libvirt has a domain's memory put, by the command line it wrote for its QEMU. PURE.
 *
 *     -object {"qom-type":"memory-backend-file","id":"pc.ram","mem-path":"FOLDER/ID-NAME/pc.ram",…}
 *
 * ID is another each time the domain starts; the rest is as the domain's description has it:
 *
 *     <memoryBacking><source type='file'/></memoryBacking>
 */
import { isBalloon, parseOptions, splitProperties } from './command-line.ts';
import { OptionValue } from './option-value.ts';

/** As much as the command line knows of a LinkedMemory (libvirt/memory-link.ts). */
export interface DomainMemory {
  readonly folder: string;
  readonly name: string;
  readonly alias: string;
  readonly uuid: string;
}

const FILE = "<memoryBacking><source type='file'/></memoryBacking> in its XML";

/**
 * @param idstr of main RAM; if it is not known, what the machine is told to have
 * @returns where an image can be put for it, or why none can
 */
export function domainMemory(
  commandLine: readonly string[],
  idstr = mainRamOf(commandLine),
): DomainMemory | string {
  const options = parseOptions(commandLine.slice(1));
  const valuesOf = (option: string) =>
    options.flatMap(({ name, value = '' }) => (name === option ? [value] : []));
  if (valuesOf('device').some((value) => isBalloon(splitProperties(value)))) {
    return "its balloon would take pages out of the image itself: <memballoon model='none'/>";
  }
  if (valuesOf('numa').some((value) => value.includes('memdev'))) {
    return 'its memory is split over NUMA nodes';
  }
  const backend = valuesOf('object')
    .map((value) => new OptionValue(value, 'qom-type'))
    .find((value) => value.get('id') === idstr);
  const kind = backend?.get('qom-type')?.replace('memory-backend-', '');
  if (kind === 'memfd') return `its memory is a memfd, which has no name; it needs ${FILE}`;
  if (backend === undefined || kind !== 'file') return `its memory has no file; it needs ${FILE}`;
  if (backend.isOn('share')) return "its memory is shared: <access mode='shared'/>";
  if (backend.isOn('prealloc')) return 'its memory is allocated at once: <allocation/>';
  return filePlace(backend.get('mem-path') ?? '', idstr, {
    domain: new OptionValue(valuesOf('name')[0] ?? '', 'guest').get('guest') ?? '',
    uuid: valuesOf('uuid')[0] ?? '',
  });
}

function mainRamOf(commandLine: readonly string[]): string {
  const machine = parseOptions(commandLine.slice(1)).find(({ name }) => name === 'machine');
  return new OptionValue(machine?.value ?? '', 'type').get('memory-backend') ?? '';
}

/** A name that libvirt has shortened could be another domain's as well. */
function filePlace(
  path: string,
  alias: string,
  { domain, uuid }: { readonly domain: string; readonly uuid: string },
): DomainMemory | string {
  const [, folder = '', name, file] = /^(\/.*)\/\d+-([^/]+)\/([^/]+)$/.exec(path) ?? [];
  if (file !== alias) return `its memory is in a file that libvirt does not make: ${path}`;
  if (name !== domain) return 'its name is longer than libvirt’s folder for its memory tells';
  return { folder, name, alias, uuid };
}
