/**
 * Reads and rewrites a QEMU command line, so that a VM can be started again to be restored. PURE.
 *
 *     as recorded   qemu -machine pc -m 512 … -S?  -incoming?  -daemonize?
 *     to restore    qemu -machine pc-i440fx-7.2 -m 512 … -S
 *     and, mapped   … -object memory-backend-file,id=pc.ram,size=N,mem-path=FILE,share=off
 *                     -machine memory-backend=pc.ram
 *
 * The machine type is the recorded one, in full: an alias such as `pc` may mean another machine to
 * another QEMU. The backend's id must be the RAMBlock's idstr, for that names the block.
 */
import { UmbraError } from '../failure/failure.ts';

/** Options that take no value (qemu-options.hx); every other one takes the next word. */
const FLAGS: ReadonlySet<string> = new Set([
  'S',
  'alt-grab',
  'ctrl-grab',
  'curses',
  'daemonize',
  'enable-kvm',
  'full-screen',
  'mem-prealloc',
  'nodefaults',
  'no-acpi',
  'no-fd-bootchk',
  'no-hpet',
  'no-reboot',
  'no-shutdown',
  'no-user-config',
  'nographic',
  'only-migratable',
  'portrait',
  'preconfig',
  's',
  'semihosting',
  'show-cursor',
  'singlestep',
  'snapshot',
  'usb',
  'win2k-hack',
  'xen-attach',
  'xen-domid-restrict',
]);

export interface QemuOption {
  /** Without dashes; '' for a bare word (a disk image). */
  readonly name: string;
  readonly value: string | undefined;
}

/** The memory backend a `map` restore starts the VM with. */
export interface MappedRam {
  /** The RAMBlock's idstr. */
  readonly id: string;
  readonly bytes: number;
  readonly path: string;
}

/** Splits argv (without the program) into options. */
export function parseOptions(words: readonly string[]): QemuOption[] {
  const options: QemuOption[] = [];
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    const name = /^--?([^-].*)$/s.exec(word)?.[1];
    if (name === undefined) {
      options.push({ name: '', value: word });
      continue;
    }
    options.push({ name, value: FLAGS.has(name) ? undefined : words[++index] });
  }
  return options;
}

export function formatOptions(options: readonly QemuOption[]): string[] {
  return options.flatMap(({ name, value }) => {
    if (name === '') return [value ?? ''];
    return value === undefined ? [`-${name}`] : [`-${name}`, value];
  });
}

/** Path of the first QMP unix socket QEMU listens on, if the command line makes one. */
export function qmpSocketOf(commandLine: readonly string[]): string | undefined {
  for (const { name, value = '' } of parseOptions(commandLine.slice(1))) {
    const path = /^unix:((?:[^,]|,,)+)/.exec(value)?.[1];
    if (name === 'qmp' && path !== undefined) return path.replaceAll(',,', ',');
  }
  return undefined;
}

/** The machine type asked for, alias or full, or undefined when it is left to QEMU. */
export function machineTypeOf(commandLine: readonly string[]): string | undefined {
  for (const { name, value = '' } of parseOptions(commandLine.slice(1))) {
    if (name !== 'machine' && name !== 'M') continue;
    const type = typeProperty(splitProperties(value));
    if (type !== undefined) return type;
  }
  return undefined;
}

/** Why main RAM cannot be mapped from an image in this VM, or undefined if it can. */
export function mapObstacle(commandLine: readonly string[], idstr: string): string | undefined {
  const options = parseOptions(commandLine.slice(1));
  if (idstr.includes('/')) return `its main RAM block ${idstr} belongs to a device`;
  for (const { name, value = '' } of options) {
    const properties = splitProperties(value);
    if (name === 'device' && isBalloon(properties)) {
      return 'its balloon would take pages out of the image itself';
    }
    if (name === 'numa' && value.includes('memdev=')) return 'its RAM is split over NUMA nodes';
    if (name === 'mem-path') return '-mem-path already gives its RAM a file';
    if (name !== 'object' || !isMemoryBackend(properties)) continue;
    if (!properties.includes(`id=${idstr}`)) continue;
    if (isShared(properties)) return 'its RAM is shared with another process';
    if (properties.some((property) => property.startsWith('hugetlb'))) {
      return 'its RAM is made of huge pages';
    }
  }
  return undefined;
}

/**
 * The command line that starts the VM again, stopped; where its state is to come from is not part of it.
 * @throws UmbraError E_COMMAND_LINE when it cannot be used a second time
 */
export function restoreCommandLine(
  commandLine: readonly string[],
  machineType: string,
  mapped?: MappedRam,
): string[] {
  const [program, ...words] = commandLine;
  if (program === undefined) {
    throw new UmbraError({ code: 'E_COMMAND_LINE', message: 'the command line is empty' });
  }
  const kept = parseOptions(words).filter(({ name, value }) => {
    refuseDescriptor(name, value);
    if (name === 'S' || name === 'daemonize' || name === 'incoming' || name === 'loadvm') {
      return false;
    }
    return !(mapped !== undefined && name === 'object' && isBackendOf(value ?? '', mapped.id));
  });
  const typed = machineType === '' ? kept : withMachineType(kept, machineType);
  const options = [...typed, ...(mapped === undefined ? [] : mappedOptions(mapped))];
  return [program, ...formatOptions(options), '-S'];
}

const DESCRIPTOR = /^(fd|fds|vhostfd|vhostfds|sockfd)=/;

function refuseDescriptor(name: string, value: string | undefined): void {
  if (name === 'append') return; // the guest's business
  const takes = splitProperties(value ?? '').some((property) => DESCRIPTOR.test(property));
  if (name !== 'add-fd' && !takes) return;
  const message = `-${name} ${value} uses a file descriptor that exists only once`;
  const hint = 'Start the VM with paths instead of descriptors, or restore it through its manager.';
  throw new UmbraError({ code: 'E_COMMAND_LINE', message, hint });
}

function withMachineType(options: readonly QemuOption[], machineType: string): QemuOption[] {
  let found = false;
  const changed = options.map((option) => {
    const { name, value = '' } = option;
    const properties = splitProperties(value);
    if ((name !== 'machine' && name !== 'M') || typeProperty(properties) === undefined) {
      return option;
    }
    found = true;
    const others = properties.filter((property) => typeProperty([property]) === undefined);
    return { name, value: joinProperties([machineType, ...others]) };
  });
  return found ? changed : [{ name: 'machine', value: machineType }, ...changed];
}

function mappedOptions({ id, bytes, path }: MappedRam): QemuOption[] {
  const file = path.replaceAll(',', ',,');
  return [
    {
      name: 'object',
      value: `memory-backend-file,id=${id},size=${bytes},mem-path=${file},share=off`,
    },
    { name: 'machine', value: `memory-backend=${id}` },
  ];
}

function isBackendOf(value: string, id: string): boolean {
  const properties = splitProperties(value);
  return isMemoryBackend(properties) && properties.includes(`id=${id}`);
}

function isMemoryBackend(properties: readonly string[]): boolean {
  const type = properties.find((property) => !property.includes('=')) ?? properties[0] ?? '';
  return type.replace(/^qom-type=/, '').startsWith('memory-backend-');
}

/** A memfd is shared unless it is told not to be (backends/hostmem-memfd.c). */
function isShared(properties: readonly string[]): boolean {
  if (properties.includes('share=on') || properties.includes('share=true')) return true;
  const memfd = properties.some((property) => property.endsWith('memory-backend-memfd'));
  return memfd && !properties.includes('share=off') && !properties.includes('share=false');
}

/**
 * Whoever inflates one has QEMU punch holes into the file behind its RAM, private mapping or not
 * (system/physmem.c, ram_block_discard_range): the epoch would lose those pages, and so would all who map it.
 */
export function isBalloon(properties: readonly string[]): boolean {
  return properties.some((property) => /^(driver=)?virtio-balloon/.test(property));
}

/** QEMU's key=value lists, in which a doubled comma is a comma; or a JSON object of the same. */
export function splitProperties(value: string): string[] {
  if (value.startsWith('{')) return jsonProperties(value);
  return value
    .replaceAll(',,', '\0')
    .split(',')
    .map((property) => property.replaceAll('\0', ','));
}

function jsonProperties(value: string): string[] {
  try {
    const object: unknown = JSON.parse(value);
    return Object.entries(object ?? {}).map(([key, one]) => `${key}=${one}`);
  } catch {
    return [value]; // QEMU would not take it either
  }
}

function joinProperties(properties: readonly string[]): string {
  return properties.map((property) => property.replaceAll(',', ',,')).join(',');
}

/** `pc,accel=kvm` and `accel=kvm,type=pc` both ask for pc. */
function typeProperty(properties: readonly string[]): string | undefined {
  for (const [index, property] of properties.entries()) {
    if (property.startsWith('type=')) return property.slice('type='.length);
    if (index === 0 && property !== '' && !property.includes('=')) return property;
  }
  return undefined;
}
