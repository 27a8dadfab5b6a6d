/**
 * The command line of a throw-away QEMU that only shows that an epoch loads. PURE.
 *
 *     disks, media          null-co of the same size: no file is opened
 *     network cards         a backend that leads nowhere (clone-network.ts)
 *     consoles, monitors    null; its only monitor is Umbra's
 *     memory others see     memory of its own
 *     the rest              as it is: the device model must be the same, or its state does not load
 */
import { posix } from 'node:path';
import { UmbraError } from '../failure/failure.ts';
import { CloneNetwork } from './clone-network.ts';
import { ClonedPaths } from './clone-paths.ts';
import { formatOptions, parseOptions, type QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** Facts that a proof's command line depends on, besides the VM's. */
export interface ProofOptions {
  /** A folder for its sockets. */
  readonly directory: string;
  readonly workingDirectory: string;
  /** Returns the length of a file, without opening it; undefined if it is not known. */
  readonly bytesOf: (path: string) => number | undefined;
}

/** The socket of its monitor, in its folder. */
export const PROOF_MONITOR = 'qmp.sock';

/** A disk whose size is not known: no device model depends on it, but for flash and floppies. */
const USUAL_BYTES = 2 ** 30;
/** Properties of a drive that belong to its device, or to the drive's place. */
const OF_THE_DRIVE: ReadonlySet<string> = new Set(
  'if id index bus unit media readonly read-only node-name serial werror rerror snapshot'.split(
    ' ',
  ),
);
/** Short options that make a drive. */
const SHORT: Readonly<Record<string, string>> = {
  '': 'if=ide,index=0',
  hda: 'if=ide,index=0',
  hdb: 'if=ide,index=1',
  hdc: 'if=ide,index=2',
  hdd: 'if=ide,index=3',
  cdrom: 'if=ide,index=2,media=cdrom',
  fda: 'if=floppy,index=0',
  fdb: 'if=floppy,index=1',
  pflash: 'if=pflash',
  mtdblock: 'if=mtd',
  sd: 'if=sd',
};
/** Options without which a VM's state is the same. */
const DROPPED: ReadonlySet<string> = new Set(
  (
    'qmp qmp-pretty monitor mon gdb s pidfile D d trace vnc daemonize incoming loadvm runas ' +
    'run-with snapshot msg action'
  ).split(' '),
);
/** Options whose device needs a program or a folder of the host's beside QEMU. */
const NOT_ALONE: ReadonlySet<string> = new Set(['spice', 'tpmdev', 'fsdev', 'virtfs', 'add-fd']);
const CHARACTERS: ReadonlySet<string> = new Set(['serial', 'parallel', 'debugcon']);

/**
 * Returns the command line.
 * @param commandLine one that restores the VM (restore-line.ts)
 * @throws UmbraError E_PROOF_IMPOSSIBLE, naming the option; E_CLONE_NETWORK
 */
export function proofCommandLine(
  commandLine: readonly string[],
  { directory, workingDirectory, bytesOf }: ProofOptions,
): string[] {
  const [program = '', ...words] = commandLine;
  const options = parseOptions(words);
  const paths = new ClonedPaths(workingDirectory, directory);
  const network = new CloneNetwork({ switched: [], disconnect: true }, paths);
  const disk = (path: string | undefined): number => {
    if (path === undefined) return USUAL_BYTES;
    return bytesOf(posix.resolve(workingDirectory, path)) ?? USUAL_BYTES;
  };
  const alone = options.flatMap((option) => aloneOption(option, network, disk));
  alone.push(...network.inPlaceOfDefault(options));
  const socket = posix.join(directory, PROOF_MONITOR).replaceAll(',', ',,');
  const monitor = ['-qmp', `unix:${socket},server=on,wait=off`];
  return [program, ...formatOptions(alone), '-display', 'none', ...monitor];
}

type SizeOf = (path: string | undefined) => number;

/** Returns what takes an option's place; nothing if the proof goes without it. */
function aloneOption(option: QemuOption, network: CloneNetwork, sizeOf: SizeOf): QemuOption[] {
  const { name, value = '' } = option;
  const text = `-${name} ${value}`;
  if (DROPPED.has(name) || name === 'display') return [];
  if (NOT_ALONE.has(name)) throw impossible(text, 'needs more of the host than a proof may use');
  if (CHARACTERS.has(name)) {
    const isKept = value === 'none' || value.startsWith('chardev:');
    return [{ name, value: isKept ? value : 'null' }];
  }
  const short = SHORT[name];
  if (short !== undefined) return [{ name: 'drive', value: nullDrive(short, sizeOf(value)) }];
  switch (name) {
    case 'netdev':
    case 'nic':
    case 'net':
      return [{ name, value: network.card(name, value) }];
    case 'drive':
      return [{ name, value: drive(value, sizeOf) }];
    case 'blockdev':
      return [{ name, value: blockNode(value, sizeOf) }];
    case 'chardev':
      return [{ name, value: character(value) }];
    case 'object':
      return ownObject(option);
    case 'mem-path':
      return [];
    case 'readconfig':
      return [option];
    default:
      return [option];
  }
}

function nullDrive(place: string, bytes: number): string {
  return `${place},driver=null-co,size=${bytes},read-zeroes=on`;
}

function drive(text: string, sizeOf: SizeOf): string {
  const value = new OptionValue(text, 'file');
  const file = value.get('file') ?? value.get('file.filename');
  const driver = value.get('driver') ?? value.get('file.driver');
  const isEmpty = file === undefined && driver === undefined;
  for (const key of value.keys) if (!OF_THE_DRIVE.has(key)) value.delete(key);
  if (isEmpty) return value.format();
  value.set('driver', 'null-co');
  value.set('size', String(sizeOf(file)));
  value.set('read-zeroes', 'on');
  return value.format();
}

/** Keeps a node's name, and nothing below it. */
function blockNode(text: string, sizeOf: SizeOf): string {
  const value = new OptionValue(text, 'driver');
  const node = new OptionValue('null-co', 'driver');
  for (const key of ['node-name', 'read-only']) {
    const kept = value.get(key);
    if (kept !== undefined) node.set(key, kept);
  }
  node.set('size', String(sizeOf(value.get('filename') ?? value.get('file.filename'))));
  node.set('read-zeroes', 'on');
  return node.format();
}

function character(text: string): string {
  const value = new OptionValue(text, 'backend');
  const backend = value.get('backend') ?? '';
  if (/^(spice|qemu-vdagent)/.test(backend)) throw impossible(`-chardev ${text}`, 'needs its peer');
  const mux = value.isOn('mux') ? ',mux=on' : '';
  return `null,id=${value.get('id') ?? ''}${mux}`;
}

/** Gives the proof memory of its own in place of memory that other processes see. */
function ownObject(option: QemuOption): QemuOption[] {
  const value = new OptionValue(option.value ?? '', 'qom-type');
  const type = value.get('qom-type') ?? '';
  if (type.startsWith('filter-') || type === 'input-linux' || type.startsWith('can-')) return [];
  const isShared = type === 'memory-backend-memfd' || value.isOn('share');
  if (!type.startsWith('memory-backend-') || !isShared) return [option];
  const own = new OptionValue('memory-backend-ram', 'qom-type');
  own.set('id', value.get('id') ?? '');
  own.set('size', value.get('size') ?? '');
  return [{ name: 'object', value: own.format() }];
}

function impossible(option: string, why: string): UmbraError {
  return new UmbraError({ code: 'E_PROOF_IMPOSSIBLE', message: `${option} ${why}` });
}
