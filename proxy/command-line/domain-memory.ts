/**
 * The file in which libvirt puts a domain's memory, by the command line it wrote for the domain's
 * QEMU. PURE.
 *
 *     -object {"qom-type":"memory-backend-file","id":"pc.ram","mem-path":"FOLDER/ID-NAME/pc.ram",…}
 *
 * ID is another number each time the domain starts. The rest follows from the domain's XML:
 *
 *     <memoryBacking><source type='file'/></memoryBacking>
 */
import { isBalloon, isNumaMemory } from './map-obstacle.ts';
import { optionsOf } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** The part of a LinkedMemory (libvirt/memory-link.ts) that the command line tells. */
export interface DomainMemory {
  readonly folder: string;
  readonly name: string;
  readonly alias: string;
  readonly uuid: string;
}

const FILE = "<memoryBacking><source type='file'/></memoryBacking> in its XML";

/**
 * Returns where an image of a domain's main RAM can be put for its QEMU to map, or why none can.
 * @param idstr the name of main RAM's block; the default is the backend the machine is told to use
 */
export function domainMemory(
  commandLine: readonly string[],
  idstr = mainRamOf(commandLine),
): DomainMemory | string {
  const options = optionsOf(commandLine);
  const valuesOf = (option: string) =>
    options.flatMap(({ name, value = '' }) => (name === option ? [value] : []));
  if (valuesOf('device').some(isBalloon)) {
    return "its balloon would take pages out of the image itself: <memballoon model='none'/>";
  }
  if (valuesOf('numa').some(isNumaMemory)) return 'its memory is split over NUMA nodes';
  const backend = valuesOf('object')
    .map((value) => new OptionValue(value, 'qom-type'))
    .find((value) => value.get('id') === idstr);
  const kind = backend?.get('qom-type')?.replace('memory-backend-', '');
  if (kind === 'memfd') return `its memory is a memfd, which has no name; it needs ${FILE}`;
  if (backend === undefined || kind !== 'file') return `its memory has no file; it needs ${FILE}`;
  if (backend.isOn('share')) return "its memory is shared: <access mode='shared'/>";
  if (backend.isOn('prealloc')) return 'its memory is allocated at once: <allocation/>';
  return fileLocation(backend.get('mem-path') ?? '', idstr, {
    domain: new OptionValue(valuesOf('name')[0] ?? '', 'guest').get('guest') ?? '',
    uuid: valuesOf('uuid')[0] ?? '',
  });
}

function mainRamOf(commandLine: readonly string[]): string {
  const machine = optionsOf(commandLine).find(({ name }) => name === 'machine');
  return new OptionValue(machine?.value ?? '', 'type').get('memory-backend') ?? '';
}

/** Refuses a name that libvirt has shortened: it could be another domain's as well. */
function fileLocation(
  path: string,
  alias: string,
  { domain, uuid }: { readonly domain: string; readonly uuid: string },
): DomainMemory | string {
  const [, folder = '', name, file] = /^(\/.*)\/\d+-([^/]+)\/([^/]+)$/.exec(path) ?? [];
  if (file !== alias) return `its memory is in a file that libvirt does not make: ${path}`;
  if (name !== domain) return 'its name is longer than libvirt’s folder for its memory tells';
  return { folder, name, alias, uuid };
}
