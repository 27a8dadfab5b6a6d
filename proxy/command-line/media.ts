/**
 * A command line whose drives hold the media they had when the VM was captured. PURE.
 *
 *     -cdrom a.iso, ejected since                →  -drive if=ide,index=2,media=cdrom
 *     -drive media=cdrom,file=a.iso,id=cd0, and
 *     a monitor's client has put in b.iso        →  -drive media=cdrom,file=b.iso,id=cd0
 *     -blockdev …,node-name=iso -device ide-cd,drive=iso, ejected
 *                                                →  -device ide-cd
 *
 * Only one change can be told from another: which option made which drive QEMU does not say.
 */
import { posix } from 'node:path';
import { UmbraError } from '../failure/failure.ts';
import type { Machine } from '../protocol/machine.ts';
import { diskFilesOf, isProtocol } from './disks.ts';
import type { QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

type Media = Machine['media'];

/** Drives that short options make. */
const SHORT: Readonly<Record<string, string>> = {
  cdrom: 'if=ide,index=2,media=cdrom',
  fda: 'if=floppy,index=0',
  fdb: 'if=floppy,index=1',
};
const DRIVERS_OF_CDS = /^(ide-cd|scsi-cd|floppy)$/;

/** A medium that an option names. */
interface Named {
  readonly file: string;
  /** The option's place, and, of a node, that of the device that has it. */
  readonly at: number;
  readonly device: number | undefined;
}

/**
 * Returns the options with the media as they are.
 * @throws UmbraError E_VM_CHANGED: more has changed than one medium
 */
export function withMedia(
  options: readonly QemuOption[],
  media: Media,
  workingDirectory: string,
): QemuOption[] {
  const absolute = (path: string) => posix.resolve(workingDirectory, path);
  // What is no file of this host has a name that is not compared.
  const present = media.flatMap(({ file }) => (isPlain(file) ? [absolute(file)] : []));
  const known = new Set(diskFilesOf(options, workingDirectory));
  const named = options.flatMap((_, at) => namedAt(options, at));
  for (const { file } of named) known.add(absolute(file));
  const gone = named.filter(({ file }) => !present.includes(absolute(file)));
  const fresh = present.filter((file) => !known.has(file));
  const [old, ...more] = gone;
  if (old === undefined && fresh.length === 0) return [...options];
  if (old === undefined || more.length > 0 || fresh.length > 1) {
    const words = [...gone.map(({ file }) => `${file} was taken out`)];
    words.push(...fresh.map((file) => `${file} was put in`));
    const message = `media of its drives have changed: ${words.join('; ')}`;
    throw new UmbraError({ code: 'E_VM_CHANGED', message });
  }
  return withOther(options, old, fresh[0]);
}

function isPlain(file: string): boolean {
  return file !== '' && !isProtocol(file);
}

/** Returns the medium that an option names for a drive whose medium can be changed. */
function namedAt(options: readonly QemuOption[], at: number): Named[] {
  const { name = '', value = '' } = options[at] ?? {};
  if (SHORT[name] !== undefined) return [{ file: value, at, device: undefined }];
  if (name !== 'drive' && name !== 'blockdev') return [];
  const option = new OptionValue(value, name === 'drive' ? 'file' : 'driver');
  const file = option.get('file.filename') ?? option.get('filename') ?? option.get('file');
  if (file === undefined || !isPlain(file)) return [];
  const id = option.get(name === 'drive' ? 'id' : 'node-name');
  const over = name === 'blockdev' && id !== undefined ? nodeOver(options, id) : undefined;
  const device = [id, over]
    .filter((one) => one !== undefined)
    .map((one) => deviceOf(options, one))
    .find((one) => one >= 0);
  const isMedium = option.get('media') === 'cdrom' || option.get('if') === 'floppy';
  if (!isMedium && device === undefined) return [];
  return [{ file, at, device: name === 'blockdev' ? device : undefined }];
}

/** Returns the node whose data is in another one. */
function nodeOver(options: readonly QemuOption[], node: string): string | undefined {
  return options
    .filter(({ name }) => name === 'blockdev')
    .map(({ value = '' }) => new OptionValue(value, 'driver'))
    .find((option) => option.get('file') === node)
    ?.get('node-name');
}

function deviceOf(options: readonly QemuOption[], drive: string): number {
  return options.findIndex(({ name, value = '' }) => {
    const device = new OptionValue(value, 'driver');
    const isDrive = name === 'device' && DRIVERS_OF_CDS.test(device.get('driver') ?? '');
    return isDrive && device.get('drive') === drive;
  });
}

function withOther(
  options: readonly QemuOption[],
  { at, device }: Named,
  file: string | undefined,
): QemuOption[] {
  const changed = [...options];
  const { name, value = '' } = options[at] ?? { name: '' };
  const short = SHORT[name];
  if (short !== undefined) {
    const drive = new OptionValue(short, '');
    if (file !== undefined) drive.set('file', file);
    changed[at] = { name: 'drive', value: drive.format() };
    return changed;
  }
  if (file === undefined && device !== undefined) {
    const cd = new OptionValue(options[device]?.value ?? '', 'driver');
    cd.delete('drive');
    changed[device] = { name: 'device', value: cd.format() };
    return changed;
  }
  const option = new OptionValue(value, name === 'drive' ? 'file' : 'driver');
  const key = ['file.filename', 'filename', 'file'].find((one) => option.get(one) !== undefined);
  if (key === undefined) return changed;
  if (file !== undefined) option.set(key, file);
  else for (const one of [key, 'format', 'driver', 'file.driver']) option.delete(one);
  changed[at] = { name, value: option.format() };
  return changed;
}
