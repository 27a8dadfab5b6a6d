/** The files that a VM's options name, without which QEMU does not start. PURE. */
import { posix } from 'node:path';
import { diskFilesOf, isProtocol } from './disks.ts';
import type { QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** Options whose whole value is a file. */
const FILES: ReadonlySet<string> = new Set(['kernel', 'dtb', 'readconfig', 'mtdblock', 'sd']);
/** The same, looked for in QEMU's own folders too where it names no folder. */
const FIRMWARE: ReadonlySet<string> = new Set(['bios', 'pflash']);
/** Properties that name a file, by option. */
const PROPERTIES: Readonly<Record<string, readonly string[]>> = {
  device: ['file', 'romfile'],
  acpitable: ['file', 'data'],
  smbios: ['file'],
  fw_cfg: ['file'],
  object: ['file', 'filename'],
};

/** A file, and the option that names it. */
export interface NeededFile {
  readonly path: string;
  readonly option: string;
}

/** Returns the files with absolute paths, each once. */
export function neededFiles(
  options: readonly QemuOption[],
  workingDirectory: string,
): NeededFile[] {
  const found = options.flatMap((option) => {
    const { name, value = '' } = option;
    return filesOf(option).map((path) => {
      return { path: posix.resolve(workingDirectory, path), option: `-${name} ${value}` };
    });
  });
  const disks = diskFilesOf(options, workingDirectory).filter((path) => !isProtocol(path));
  found.push(...disks.map((path) => ({ path, option: 'a disk' })));
  return [...new Map(found.map((file) => [file.path, file])).values()];
}

function filesOf({ name, value = '' }: QemuOption): string[] {
  if (FILES.has(name)) return [value];
  if (FIRMWARE.has(name)) return value.includes('/') ? [value] : [];
  // Modules may have arguments, and are separated by commas (multiboot).
  if (name === 'initrd') return [value.split(',')[0]?.split(' ')[0] ?? ''];
  if (name === 'cdrom' || name === 'fda' || name === 'fdb') return [value];
  const properties = PROPERTIES[name];
  if (properties === undefined) return [];
  const option = new OptionValue(value, '');
  if (name === 'object' && !hasInputFile(option)) return [];
  return properties.flatMap((key) => option.get(key) ?? []).filter((path) => path.includes('/'));
}

/** Tells whether an object reads its file; a dump of frames makes it. */
function hasInputFile(object: OptionValue): boolean {
  return (object.get('qom-type') ?? '').startsWith('secret');
}
