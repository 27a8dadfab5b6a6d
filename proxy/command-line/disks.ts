/**
 * A command line whose disks are other files: layers over those that an epoch names. PURE.
 *
 *     -drive file=/vm/disk.raw,format=raw,if=virtio     →  -drive file=LAYER,format=qcow2,if=virtio
 *     -blockdev raw,node-name=d,file.driver=file,file.filename=/vm/disk.raw
 *                                                       →  … qcow2,…,file.filename=LAYER
 *     -hda /vm/disk.qcow2, or a bare word               →  -hda LAYER
 *
 * An option is a disk's if its file is one of the disk's layers: the lowest is what the VM was first
 * started with, whatever was put over it since.
 */
import { posix } from 'node:path';
import { UmbraError } from '../failure/failure.ts';
import type { RestoredDisk } from '../protocol/disk-layer.ts';
import { formatOptions, parseOptions, type QemuOption } from './command-line.ts';
import { OptionValue } from './option-value.ts';

const FORMAT = 'qcow2';
/** Where the others have it. */
const FILE_KEYS = ['file', 'file.filename', 'filename'] as const;
/** Options whose whole value is a file. */
const PLAIN: ReadonlySet<string> = new Set(['hda', 'hdb', 'hdc', 'hdd', '']);

/** @throws UmbraError E_DISK_COMMAND: a disk is in no option, or in more than one */
export function withLayers(
  commandLine: readonly string[],
  disks: readonly RestoredDisk[],
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

/** Absolute paths of the files that the options of a command line name for disks. */
export function diskFiles(commandLine: readonly string[], workingDirectory: string): string[] {
  return parseOptions(commandLine.slice(1))
    .flatMap(({ name, value = '' }) => {
      if (PLAIN.has(name)) return [value];
      if (name !== 'drive' && name !== 'blockdev') return [];
      const option = new OptionValue(value, name === 'drive' ? 'file' : 'driver');
      return FILE_KEYS.flatMap((key) => option.get(key) ?? []);
    })
    .map((path) => posix.resolve(workingDirectory, path));
}

/** undefined: it is not the disk's */
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
  if (key === 'filename') return undefined; // a node of the file alone: its format is in another option
  option.set(key, layer);
  const format = name === 'drive' && option.get('driver') === undefined ? 'format' : 'driver';
  option.set(format, FORMAT);
  return { name, value: option.format() };
}
