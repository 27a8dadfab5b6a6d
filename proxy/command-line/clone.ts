/**
 * The command line of a second VM, a clone, which runs beside the first. PURE.
 *
 *     files and sockets QEMU makes   in the clone's folder: -qmp, -serial, -chardev, -pidfile, …
 *     network cards                  clone-network.ts
 *     what two VMs cannot share      refused: writable disks, TCP ports, host devices, …
 *     the rest                       as it is: the device model must be the same, or its state
 *                                    does not load
 *
 * Only backends change, never devices.
 */

import { CloneNetwork, type CloneNetworkOptions } from './clone-network.ts';
import { ClonedPaths } from './clone-paths.ts';
import { belongsToFirst, refused, writableDisk } from './clone-refusals.ts';
import { formatOptions, parseOptions, type QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** The facts that a clone's command line depends on, besides the first VM's. */
export interface CloneOptions extends CloneNetworkOptions {
  /** The clone's name; -name gets it as a suffix. */
  readonly clone: string;
  /** The member's folder in the clone. */
  readonly directory: string;
  /** The folder that relative paths in the command line begin in. */
  readonly workingDirectory: string;
  /** The first cluster's folder: the clone may use nothing in it. */
  readonly sourceDirectory: string;
}

/** The command line of a clone. */
export interface ClonedLine {
  readonly commandLine: string[];
  /** Absolute paths of files and sockets of the first VM, each with the clone's. */
  readonly paths: ReadonlyMap<string, string>;
  /** Sockets for the clone's switch to dial. */
  readonly network: readonly string[];
  /** Cards that lead nowhere now, as options. */
  readonly unplugged: readonly string[];
}

/**
 * Returns the command line of a clone.
 * @throws UmbraError E_CLONE_NETWORK, E_CLONE_DISK, E_CLONE_COMMAND, naming the option
 */
export function cloneCommandLine(
  commandLine: readonly string[],
  settings: CloneOptions,
): ClonedLine {
  const [program, ...words] = commandLine;
  if (program === undefined) throw refused('E_CLONE_COMMAND', '', 'the command line is empty');
  const options = parseOptions(words);
  refuseDisks(options);
  const rewrite = new Rewrite(settings);
  const cloned = options.flatMap((option) => rewrite.option(option));
  cloned.push(...rewrite.network.inPlaceOfDefault(options));
  refuseLeftovers(cloned, settings.sourceDirectory);
  return {
    commandLine: [program, ...formatOptions(cloned)],
    paths: rewrite.paths.cloned,
    network: rewrite.network.sockets,
    unplugged: rewrite.network.unplugged,
  };
}

/** Rewrites the options of one command line, one by one. */
class Rewrite {
  readonly paths: ClonedPaths;
  readonly network: CloneNetwork;
  readonly #clone: string;

  constructor(options: CloneOptions) {
    this.#clone = options.clone;
    this.paths = new ClonedPaths(options.workingDirectory, options.directory);
    this.network = new CloneNetwork(options, this.paths);
  }

  /** Returns what takes an option's place; nothing if the clone is started without it. */
  option(option: QemuOption): QemuOption[] {
    const { name, value = '' } = option;
    const changed = (to: string) => [{ name, value: to }];
    switch (name) {
      case 'qmp':
      case 'qmp-pretty':
      case 'monitor':
      case 'serial':
      case 'parallel':
      case 'debugcon':
      case 'gdb':
        return changed(this.#character(name, value));
      case 'chardev':
        return changed(this.#chardev(value));
      case 'netdev':
      case 'nic':
      case 'net':
        return changed(this.network.card(name, value));
      case 'pidfile':
      case 'D':
        return changed(this.paths.file(value));
      case 'trace':
        return changed(this.#property(value, 'enable', 'file'));
      case 'audiodev':
        return changed(this.#property(value, 'driver', 'path'));
      case 'object':
        return changed(this.#object(value));
      case 'name':
        return changed(this.#name(value));
      case 'device':
        refuseShared(name, value);
        return changed(withNewGeneration(value));
      case 'vnc':
        return changed(this.#vnc(value));
      case 'incoming': // how the first VM was started
      case 'loadvm':
        return [];
      default:
        refuseShared(name, value);
        return [option];
    }
  }

  /** Rewrites the short form of a character device: `unix:PATH,server=on`, `file:PATH`, `mon:…`. */
  #character(option: string, value: string): string {
    if (value.startsWith('mon:')) return `mon:${this.#character(option, value.slice(4))}`;
    if (value.startsWith('file:')) return `file:${this.paths.file(value.slice(5))}`;
    if (value.startsWith('unix:')) {
      const socket = new OptionValue(value.slice(5), 'path');
      if (!socket.isOn('server')) throw belongsToFirst(option, value);
      socket.set('path', this.paths.socket(option, socket.get('path') ?? ''));
      return `unix:${socket.format()}`;
    }
    if (/^(null|none|stdio|pty|vc(:.*)?|chardev:.*|ringbuf(,.*)?)$/.test(value)) return value;
    throw belongsToFirst(option, value);
  }

  #chardev(text: string): string {
    const value = new OptionValue(text, 'backend');
    const backend = value.get('backend') ?? '';
    const path = value.get('path');
    if (backend === 'socket' && path !== undefined && value.isOn('server')) {
      value.set('path', this.paths.socket('chardev', path));
    } else if (backend === 'file' && path !== undefined) {
      value.set('path', this.paths.file(path));
    } else if (!HARMLESS_CHARDEVS.has(backend) || path !== undefined) {
      throw belongsToFirst('chardev', text);
    }
    const log = value.get('logfile');
    if (log !== undefined) value.set('logfile', this.paths.file(log));
    return value.format();
  }

  #object(text: string): string {
    const value = new OptionValue(text, 'qom-type');
    const type = value.get('qom-type') ?? '';
    if (type === 'memory-backend-file' && value.isOn('share')) {
      const hint = 'Use share=off: a clone must have memory of its own.';
      throw refused('E_CLONE_COMMAND', `-object ${text}`, 'is memory both VMs would write', hint);
    }
    if (type === 'input-linux') throw belongsToFirst('object', text);
    return type === 'filter-dump' ? this.#property(text, 'qom-type', 'file') : text;
  }

  #name(text: string): string {
    const value = new OptionValue(text, 'guest');
    const guest = value.get('guest');
    if (guest !== undefined) value.set('guest', `${guest}-${this.#clone}`);
    return value.format();
  }

  #vnc(text: string): string {
    if (text === 'none') return text;
    const value = new OptionValue(text, 'vnc');
    const path = /^unix:(.*)$/.exec(value.get('vnc') ?? '')?.[1];
    if (path === undefined) throw belongsToFirst('vnc', text);
    value.set('vnc', `unix:${this.paths.socket('vnc', path)}`);
    return value.format();
  }

  #property(text: string, implied: string, key: string): string {
    const value = new OptionValue(text, implied);
    const path = value.get(key);
    if (path === undefined) return text;
    value.set(key, this.paths.file(path));
    return value.format();
  }
}

/** Character devices that lead to nothing outside QEMU but the terminal it has inherited. */
const HARMLESS_CHARDEVS: ReadonlySet<string> = new Set(
  (
    'null stdio pty vc ringbuf memory testdev hub ' +
    'spicevmc qemu-vdagent msmouse braille wctablet'
  ).split(' '),
);

/**
 * Gives a clone an identifier of its own for its generation: the guest's kernel then makes new
 * random seeds (hw/acpi/vmgenid.c).
 */
function withNewGeneration(text: string): string {
  const device = new OptionValue(text, 'driver');
  if (device.get('driver') !== 'vmgenid') return text;
  device.set('guid', 'auto');
  return device.format();
}

/** Refuses options that only the first VM can use, for their name or for what their value says. */
function refuseShared(name: string, value: string): void {
  if (name === 's' || name === 'spice') throw belongsToFirst(name, value);
  if (name === 'display' && value.startsWith('vnc')) throw belongsToFirst(name, value);
  if (name === 'tpmdev' && !value.startsWith('emulator')) throw belongsToFirst(name, value);
  if (name === 'set' && /^(chardev|netdev|net|drive|blockdev)\./.test(value)) {
    throw belongsToFirst(name, value);
  }
  if (name === 'readconfig') {
    const hint = 'Give the VM its options on the command line.';
    throw refused('E_CLONE_COMMAND', `-${name} ${value}`, 'hides options from us', hint);
  }
  if (name === 'fsdev' || name === 'virtfs') {
    if (!new OptionValue(value, 'fsdriver').isOn('readonly')) {
      const hint = 'Share the folder read-only (readonly=on).';
      throw refused('E_CLONE_DISK', `-${name} ${value}`, 'is a folder both VMs would write', hint);
    }
  }
  if (name !== 'device') return;
  const device = new OptionValue(value, 'driver');
  const driver = device.get('driver') ?? '';
  const unique = device.get('guest-cid') !== undefined || /^(vfio-|usb-host)/.test(driver);
  if (unique || device.get('host') !== undefined) throw belongsToFirst(name, value);
}

/** Options whose whole value is the file of a writable disk. */
const DISKS: ReadonlySet<string> = new Set([
  'hda',
  'hdb',
  'hdc',
  'hdd',
  'fda',
  'fdb',
  'sd',
  'mtdblock',
  'pflash',
  '',
]);

/** Refuses writable disks: an epoch holds no disks, and two VMs that write to one destroy it. */
function refuseDisks(options: readonly QemuOption[]): void {
  const under = new Set(
    options.flatMap(({ name, value = '' }) => {
      const node = name === 'blockdev' ? new OptionValue(value, 'driver') : undefined;
      return node === undefined ? [] : [node.get('file') ?? [], node.get('backing') ?? []].flat();
    }),
  );
  for (const { name, value = '' } of options) {
    const text = `${name === '' ? '' : `-${name} `}${value}`;
    if (DISKS.has(name)) throw writableDisk(text);
    if (name === 'drive' && isWritableDrive(new OptionValue(value, 'file')))
      throw writableDisk(text);
    if (name !== 'blockdev') continue;
    const node = new OptionValue(value, 'driver');
    // A node below another one is written through that one, or not at all.
    if (under.has(node.get('node-name') ?? '')) continue;
    if (!isNothing(node.get('driver')) && !node.isOn('read-only')) throw writableDisk(text);
  }
}

function isWritableDrive(drive: OptionValue): boolean {
  if (drive.isOn('readonly') || drive.isOn('read-only') || drive.get('media') === 'cdrom') {
    return false;
  }
  if (isNothing(drive.get('driver')) || isNothing(drive.get('file.driver'))) return false;
  if (/^null-(co|aio):\/\//.test(drive.get('file') ?? '')) return false;
  // A drive without any of these is empty.
  return drive.keys.some((key) => key === 'driver' || key === 'file' || key.startsWith('file.'));
}

/** Tells whether a block driver keeps nothing of what is written to it. */
function isNothing(driver: string | undefined): boolean {
  return driver === 'null-co' || driver === 'null-aio';
}

/** Refuses a path into the first cluster's folder that is left in any option, known or not. */
function refuseLeftovers(options: readonly QemuOption[], sourceDirectory: string): void {
  for (const { name, value = '' } of options) {
    if (name === 'append' || !speaksOf(value, sourceDirectory)) continue;
    // The shadow itself is there, mapped privately.
    if (name === 'object' && value.startsWith('memory-backend-file,')) continue;
    throw belongsToFirst(name, value);
  }
}

/**
 * Tells whether a value names a folder, or a file in it. A folder whose name only begins the same
 * is another cluster's.
 */
function speaksOf(value: string, folder: string): boolean {
  const [, ...rests] = value.split(folder);
  return rests.some((rest) => !/^[a-z0-9-]/.test(rest));
}
