/**
 * A command line whose disks are other files: layers over those that an epoch names. PURE.
 *
 *     -drive file=/vm/disk.raw,format=raw,if=virtio     →  -drive file=LAYER,format=qcow2,if=virtio
 *     -blockdev raw,node-name=d,file.driver=file,file.filename=/vm/disk.raw
 *                                                       →  … qcow2,…,file.filename=LAYER
 *     -hda /vm/disk.qcow2, or a bare word               →  -hda LAYER
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

/** A disk to put a layer over. */
interface LayeredDisk {
  readonly device: string;
  /** The files it consists of, the newest first. */
  readonly layers: readonly { readonly path: string }[];
  /** The new layer. */
  readonly layer: string;
}

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
    const isOfDisk = (path: string | undefined) =>
      path !== undefined && files.has(posix.resolve(workingDirectory, path));
    let found = 0;
    options = options.map((option) => {
      const changed = withFile(option, isOfDisk, disk.layer);
      if (changed !== undefined) found += 1;
      return changed ?? option;
    });
    if (found === 1) continue;
    const message = `the command line names the files of ${disk.device} ${found} times`;
    throw new UmbraError({ code: 'E_DISK_COMMAND', message });
  }
  return [program, ...formatOptions(options)];
}

/** Returns the absolute paths of the files that the options of a command line name for disks. */
export function diskFiles(commandLine: readonly string[], workingDirectory: string): string[] {
  return optionsOf(commandLine)
    .flatMap(({ name, value = '' }) => {
      if (PLAIN.has(name)) return [value];
      if (name !== 'drive' && name !== 'blockdev') return [];
      const option = new OptionValue(value, name === 'drive' ? 'file' : 'driver');
      return FILE_KEYS.flatMap((key) => option.get(key) ?? []);
    })
    .map((path) => posix.resolve(workingDirectory, path));
}

/** Returns an option with the layer as its file; undefined if the option is not the disk's. */
function withFile(
  { name, value = '' }: QemuOption,
  isOfDisk: (path: string | undefined) => boolean,
  layer: string,
): QemuOption | undefined {
  if (PLAIN.has(name)) return isOfDisk(value) ? { name, value: layer } : undefined;
  if (name !== 'drive' && name !== 'blockdev') return undefined;
  const option = new OptionValue(value, name === 'drive' ? 'file' : 'driver');
  const key = FILE_KEYS.find((one) => isOfDisk(option.get(one)));
  if (key === undefined) return undefined;
  if (key === 'filename') return undefined; // a file's own node: the format is in another option
  option.set(key, layer);
  const format = name === 'drive' && option.get('driver') === undefined ? 'format' : 'driver';
  option.set(format, FORMAT);
  return { name, value: option.format() };
}
