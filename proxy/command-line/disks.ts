/**
 * A command line whose disks are other files: layers over those that an epoch names. PURE.
 *
 *     -drive file=/vm/disk.raw,format=raw,if=virtio     →  -drive file=LAYER,format=qcow2,if=virtio
 *     -blockdev raw,node-name=d,file.driver=file,file.filename=/vm/disk.raw
 *                                                       →  … qcow2,…,file.filename=LAYER
 *     -blockdev file,node-name=f,filename=/vm/disk.raw  →  … filename=LAYER
 *     -blockdev raw,node-name=d,file=f                  →  … qcow2,…
 *     -hda /vm/disk.qcow2, or a bare word               →  -hda LAYER
 *     -pflash /vm/vars.fd                               →  -drive if=pflash,file=LAYER,…
 *
 * An option is a disk's if its file is one of the disk's layers. The lowest layer is the file that
 * the VM was first started with; others may have been put over it since.
 */
import { posix } from 'node:path';
import { UmbraError } from '../failure/failure.ts';
import { formatOptions, optionsOf, parseOptions, type QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

const FORMAT = 'qcow2';
/** The properties of `-drive` and `-blockdev` that name a file. */
const FILE_KEYS = ['file', 'file.filename', 'filename'] as const;
/** Options whose whole value is a file. */
const PLAIN: ReadonlySet<string> = new Set(['hda', 'hdb', 'hdc', 'hdd', '']);
/** Properties of a raw image that no other format has. */
const RAW_KEYS = ['offset', 'size'] as const;

/** A disk to put a layer over. */
interface LayeredDisk {
  readonly device: string;
  /** The files it consists of, the newest first. */
  readonly layers: readonly { readonly path: string }[];
  /** The new layer. */
  readonly layer: string;
}

/** A file that may be a disk's. */
type IsOfDisk = (path: string | undefined) => boolean;

/**
 * Returns the command line with each disk's new layer in place of the file it names.
 * @throws UmbraError E_DISK_COMMAND: a disk is in no option, or in more than one
 */
export function withLayers(
  commandLine: readonly string[],
  disks: readonly LayeredDisk[],
  workingDirectory: string,
): string[] {
  const [program = '', ...words] = commandLine;
  let options = parseOptions(words);
  for (const disk of disks) {
    const files = new Set(disk.layers.map(({ path }) => path));
    const isOfDisk: IsOfDisk = (path) =>
      path !== undefined && files.has(posix.resolve(workingDirectory, plainPath(path)));
    const { changed, found } = withLayer(options, isOfDisk, disk.layer);
    options = changed;
    if (found === 1) continue;
    const message = `the command line names the files of ${disk.device} ${found} times`;
    throw new UmbraError({ code: 'E_DISK_COMMAND', message });
  }
  return [program, ...formatOptions(options)];
}

/**
 * Returns the files that the options of a command line name for disks, with absolute paths. A disk
 * that is no file of this host is named as the option does.
 */
export function diskFiles(commandLine: readonly string[], workingDirectory: string): string[] {
  return diskFilesOf(optionsOf(commandLine), workingDirectory);
}

/** Returns the same of options. */
export function diskFilesOf(options: readonly QemuOption[], workingDirectory: string): string[] {
  const nodes = new Set(nodeNames(options));
  return options
    .flatMap(({ name, value = '' }) => {
      if (PLAIN.has(name) || name === 'pflash') return [value];
      if (name !== 'drive' && name !== 'blockdev') return [];
      const option = new OptionValue(value, name === 'drive' ? 'file' : 'driver');
      return FILE_KEYS.flatMap((key) => option.get(key) ?? []).filter((file) => !nodes.has(file));
    })
    .map(plainPath)
    .map((path) => (isProtocol(path) ? path : posix.resolve(workingDirectory, path)));
}

/** Tells whether a name is no file's: `json:{…}`, `nbd://…`. */
export function isProtocol(path: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/.test(path);
}

function nodeNames(options: readonly QemuOption[]): string[] {
  return options.flatMap(({ name, value = '' }) => {
    return name === 'blockdev' ? (new OptionValue(value, 'driver').get('node-name') ?? []) : [];
  });
}

/** Takes off the prefix by which QEMU is told that a name is a file's (block/file-posix.c). */
function plainPath(path: string): string {
  return path.replace(/^file:(?!\/\/)/, '');
}

function withLayer(
  options: readonly QemuOption[],
  isOfDisk: IsOfDisk,
  layer: string,
): { changed: QemuOption[]; found: number } {
  let found = 0;
  /** Nodes of protocols whose file is the disk's: the format is in another option. */
  const below: string[] = [];
  const renamed = options.map((option) => {
    const node = fileNode(option);
    if (node !== undefined && isOfDisk(node.get('filename'))) {
      below.push(node.get('node-name') ?? '');
      node.set('filename', layer);
      return { name: option.name, value: node.format() };
    }
    const changed = withFile(option, isOfDisk, layer);
    if (changed !== undefined) found += 1;
    return changed ?? option;
  });
  const changed = renamed.map((option) => {
    const over =
      option.name === 'blockdev' ? new OptionValue(option.value ?? '', 'driver') : undefined;
    if (over === undefined || !below.includes(over.get('file') ?? '')) return option;
    found += 1;
    over.set('driver', FORMAT);
    for (const key of RAW_KEYS) over.delete(key);
    return { name: option.name, value: over.format() };
  });
  return { changed, found };
}

/** Returns the node of a `-blockdev` that is a file's own: its format is that of another node. */
function fileNode({ name, value = '' }: QemuOption): OptionValue | undefined {
  if (name !== 'blockdev') return undefined;
  const node = new OptionValue(value, 'driver');
  return node.get('filename') === undefined ? undefined : node;
}

/** Returns an option with the layer as its file; undefined if the option is not the disk's. */
function withFile(
  { name, value = '' }: QemuOption,
  isOfDisk: IsOfDisk,
  layer: string,
): QemuOption | undefined {
  if (PLAIN.has(name)) return isOfDisk(value) ? { name, value: layer } : undefined;
  if (name === 'pflash' && isOfDisk(value)) {
    const drive = new OptionValue('if=pflash', '');
    drive.set('file', layer);
    drive.set('format', FORMAT);
    return { name: 'drive', value: drive.format() };
  }
  if (name !== 'drive' && name !== 'blockdev') return undefined;
  const option = new OptionValue(value, name === 'drive' ? 'file' : 'driver');
  const key = FILE_KEYS.find((one) => isOfDisk(option.get(one)));
  if (key === undefined || key === 'filename') return undefined;
  option.set(key, layer);
  const format = name === 'drive' && option.get('driver') === undefined ? 'format' : 'driver';
  option.set(format, FORMAT);
  return { name, value: option.format() };
}
