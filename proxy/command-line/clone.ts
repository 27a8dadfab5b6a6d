/**
 * Turns a VM's command line into that of a second VM, which runs beside the first. PURE.
 *
 *     files and sockets QEMU makes     to the clone's folder: -qmp, -serial, -chardev, -pidfile, -D, …
 *     network cards                    each on a network of the clone's own, or refused, or unplugged
 *     what both can only share badly   refused, by name: writable disks, TCP ports, host devices, …
 *     the rest                         as it is: the device model must be the same for its state to load
 *
 * Only backends change, never devices. What may take a backend's place was tried on QEMU 7.2 and 10.0: a
 * card on `user` needs `user` again, whose own state is in the stream ("slirp"); virtio on a tap needs a
 * tap again (vnet_hdr); the others load on a hub port that leads nowhere.
 */
import { posix } from 'node:path';
import { UmbraError } from '../failure/failure.ts';
import { MEMBER_FILES } from '../host/folders.ts';
import { formatOptions, parseOptions, type QemuOption } from './command-line.ts';
import { OptionValue } from './option-value.ts';

/** The longest path of a unix socket (sun_path, unix(7)). */
const SOCKET_PATH_LIMIT = 107;
/** Names in a member's folder that are Umbra's own. */
const { monitor: _monitorOfDomains, ...OWN_FILES } = MEMBER_FILES;

export interface CloneOptions {
  /** The clone's name; -name gets it as a suffix. */
  readonly clone: string;
  /** The member's folder in the clone. */
  readonly directory: string;
  /** What relative paths in the command line are relative to. */
  readonly workingDirectory: string;
  /** The first cluster's folder: nothing in it may be used by the clone. */
  readonly sourceDirectory: string;
  /** Network sockets that the first cluster's switch dials. */
  readonly switched: readonly string[];
  /** Unplug cards that cannot be given a network of their own, instead of refusing them. */
  readonly disconnect: boolean;
}

export interface ClonedLine {
  readonly commandLine: string[];
  /** Absolute paths of files and sockets, as they were → as they are. */
  readonly paths: ReadonlyMap<string, string>;
  /** Sockets for the clone's switch to dial. */
  readonly network: readonly string[];
  /** Cards that lead nowhere now, as options. */
  readonly unplugged: readonly string[];
}

/** @throws UmbraError E_CLONE_NETWORK, E_CLONE_DISK, E_CLONE_COMMAND, naming the option */
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
  if (hasDefaultNetwork(options)) cloned.push(rewrite.defaultNetwork());
  refuseLeftovers(cloned, settings.sourceDirectory);
  return {
    commandLine: [program, ...formatOptions(cloned)],
    paths: rewrite.paths,
    network: rewrite.network,
    unplugged: rewrite.unplugged,
  };
}

/** One command line on its way. */
class Rewrite {
  readonly paths = new Map<string, string>();
  readonly network: string[] = [];
  readonly unplugged: string[] = [];
  readonly #options: CloneOptions;
  readonly #taken = new Set<string>(Object.values(OWN_FILES));
  #hubs = 0;

  constructor(options: CloneOptions) {
    this.#options = options;
  }

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
        return changed(this.#card(name, value));
      case 'pidfile':
      case 'D':
        return changed(this.#file(value));
      case 'trace':
        return changed(this.#property(value, 'enable', 'file'));
      case 'audiodev':
        return changed(this.#property(value, 'driver', 'path'));
      case 'object':
        return changed(this.#object(value));
      case 'name':
        return changed(this.#name(value));
      case 'vnc':
        return changed(this.#vnc(value));
      case 'incoming': // how the first was started
      case 'loadvm':
        return [];
      default:
        refuseShared(name, value);
        return [option];
    }
  }

  /** QEMU's own choice when nothing is said: a card, and the host's network behind it. */
  defaultNetwork(): QemuOption {
    const what = 'the network QEMU gives a VM when no option speaks of one';
    if (!this.#options.disconnect) throw notIsolated(what);
    this.unplugged.push(what);
    return { name: 'nic', value: 'user,restrict=on' };
  }

  /** `unix:PATH,server=on`, `file:PATH`, `mon:…`: the short form of a character device. */
  #character(option: string, value: string): string {
    if (value.startsWith('mon:')) return `mon:${this.#character(option, value.slice(4))}`;
    if (value.startsWith('file:')) return `file:${this.#file(value.slice(5))}`;
    if (value.startsWith('unix:')) {
      const socket = new OptionValue(value.slice(5), 'path');
      if (!socket.isOn('server')) throw ofTheFirst(option, value);
      socket.set('path', this.#socket(option, socket.get('path') ?? ''));
      return `unix:${socket.format()}`;
    }
    if (/^(null|none|stdio|pty|vc(:.*)?|chardev:.*|ringbuf(,.*)?)$/.test(value)) return value;
    throw ofTheFirst(option, value);
  }

  #chardev(text: string): string {
    const value = new OptionValue(text, 'backend');
    const backend = value.get('backend') ?? '';
    const path = value.get('path');
    if (backend === 'socket' && path !== undefined && value.isOn('server')) {
      value.set('path', this.#socket('chardev', path));
    } else if (backend === 'file' && path !== undefined) {
      value.set('path', this.#file(path));
    } else if (!HARMLESS_CHARDEVS.has(backend) || path !== undefined) {
      throw ofTheFirst('chardev', text);
    }
    const log = value.get('logfile');
    if (log !== undefined) value.set('logfile', this.#file(log));
    return value.format();
  }

  #card(option: string, text: string): string {
    const value = new OptionValue(text, 'type');
    const type = value.get('type') ?? '';
    if (type === 'nic' || type === 'none' || type === 'hubport') return text;
    if (type === 'stream' && value.isOn('server') && value.get('addr.type') === 'unix') {
      const path = value.get('addr.path') ?? '';
      const socket = this.#socket(option, path);
      if (this.#options.switched.includes(this.#absolute(path))) this.network.push(socket);
      else this.unplugged.push(`-${option} ${text}`); // whoever dialled the first does not dial this
      value.set('addr.path', socket);
      return value.format();
    }
    if (type === 'user' && value.isOn('restrict') && !value.keys.some((key) => OUTWARD.test(key))) {
      return text;
    }
    const what = `-${option} ${text}`;
    if (!this.#options.disconnect) throw notIsolated(what);
    this.#unplug(value, type, option, text);
    this.unplugged.push(what);
    return value.format();
  }

  #unplug(value: OptionValue, type: string, option: string, text: string): void {
    const without = (keys: readonly string[]) => {
      for (const key of keys) value.delete(key);
    };
    if (type === 'user') {
      without(value.keys.filter((key) => OUTWARD.test(key)));
      value.set('restrict', 'on');
    } else if (type === 'tap' || type === 'bridge') {
      value.set('type', 'tap');
      without(['ifname', 'br', 'helper']);
      value.set('script', 'no');
      value.set('downscript', 'no');
    } else if (WITHOUT_HEADER.has(type) && option !== 'net') {
      value.set('type', 'hubport');
      without(value.keys.filter((key) => !CARD.has(key)));
      value.set('hubid', String(FIRST_HUB + this.#hubs++));
    } else {
      const hint = 'Bring the clone up from an epoch taken without this card.';
      const message = `cannot be unplugged: the card’s state fits no other backend`;
      throw refused('E_CLONE_NETWORK', `-${option} ${text}`, message, hint);
    }
  }

  #object(text: string): string {
    const value = new OptionValue(text, 'qom-type');
    const type = value.get('qom-type') ?? '';
    if (type === 'memory-backend-file' && value.isOn('share')) {
      const hint = 'Use share=off: a clone must have memory of its own.';
      throw refused('E_CLONE_COMMAND', `-object ${text}`, 'is memory both VMs would write', hint);
    }
    if (type === 'input-linux') throw ofTheFirst('object', text);
    return type === 'filter-dump' ? this.#property(text, 'qom-type', 'file') : text;
  }

  #name(text: string): string {
    const value = new OptionValue(text, 'guest');
    const guest = value.get('guest');
    if (guest !== undefined) value.set('guest', `${guest}-${this.#options.clone}`);
    return value.format();
  }

  #vnc(text: string): string {
    if (text === 'none') return text;
    const value = new OptionValue(text, 'vnc');
    const path = /^unix:(.*)$/.exec(value.get('vnc') ?? '')?.[1];
    if (path === undefined) throw ofTheFirst('vnc', text);
    value.set('vnc', `unix:${this.#socket('vnc', path)}`);
    return value.format();
  }

  #property(text: string, implied: string, key: string): string {
    const value = new OptionValue(text, implied);
    const path = value.get(key);
    if (path === undefined) return text;
    value.set(key, this.#file(path));
    return value.format();
  }

  #socket(option: string, path: string): string {
    const socket = this.#file(path);
    const bytes = Buffer.byteLength(socket);
    if (bytes <= SOCKET_PATH_LIMIT) return socket;
    const limit = `${bytes} bytes are too long for a unix socket (${SOCKET_PATH_LIMIT})`;
    const hint = 'Choose a shorter name for the clone.';
    throw refused('E_CLONE_COMMAND', `-${option}`, `${limit}: ${socket}`, hint);
  }

  /** In the clone's folder, by the same name; the same file is the same file again. */
  #file(path: string): string {
    const before = this.#absolute(path);
    const known = this.paths.get(before);
    if (known !== undefined) return known;
    const base = posix.basename(before);
    let name = base;
    for (let count = 2; this.#taken.has(name); count++) name = `${count}-${base}`;
    this.#taken.add(name);
    const after = posix.join(this.#options.directory, name);
    this.paths.set(before, after);
    return after;
  }

  #absolute(path: string): string {
    const { workingDirectory } = this.#options;
    return posix.isAbsolute(path) ? posix.normalize(path) : posix.join(workingDirectory, path);
  }
}

const HARMLESS_CHARDEVS: ReadonlySet<string> = new Set([
  ...['null', 'stdio', 'pty', 'vc', 'ringbuf', 'memory', 'testdev', 'hub'],
  ...['spicevmc', 'qemu-vdagent', 'msmouse', 'braille', 'wctablet'],
]);
/** Properties of -netdev user through which something gets in or out. */
const OUTWARD = /^(hostfwd|guestfwd|smb|smbserver)$/;
/** Backends without vnet_hdr: a hub port can take their place. */
const WITHOUT_HEADER: ReadonlySet<string> = new Set(['socket', 'stream', 'dgram', 'l2tpv3', 'vde']);
/** Properties that belong to the card, or name the backend. */
const CARD: ReadonlySet<string> = new Set([
  'type',
  'id',
  'model',
  'mac',
  'macaddr',
  'name',
  'addr',
]);
/** Hubs of the VM's own have small numbers. */
const FIRST_HUB = 7500;

function hasDefaultNetwork(options: readonly QemuOption[]): boolean {
  const speaks = new Set(['nodefaults', 'netdev', 'nic', 'net']);
  return !options.some(({ name }) => speaks.has(name));
}

/** Options that are the first VM's alone, whatever their value, or for what is in it. */
function refuseShared(name: string, value: string): void {
  if (name === 's' || name === 'spice') throw ofTheFirst(name, value);
  if (name === 'display' && value.startsWith('vnc')) throw ofTheFirst(name, value);
  if (name === 'tpmdev' && !value.startsWith('emulator')) throw ofTheFirst(name, value);
  if (name === 'set' && /^(chardev|netdev|net|drive|blockdev)\./.test(value)) {
    throw ofTheFirst(name, value);
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
  if (unique || device.get('host') !== undefined) throw ofTheFirst(name, value);
}

const DISKS: ReadonlySet<string> = new Set([
  ...['hda', 'hdb', 'hdc', 'hdd', 'fda', 'fdb', 'sd', 'mtdblock', 'pflash', ''],
]);

/** An epoch holds no disks, and two VMs that write to one destroy it. */
function refuseDisks(options: readonly QemuOption[]): void {
  const under = new Set(
    options.flatMap(({ name, value = '' }) => {
      const node = name === 'blockdev' ? new OptionValue(value, 'driver') : undefined;
      return node === undefined ? [] : [node.get('file') ?? [], node.get('backing') ?? []].flat();
    }),
  );
  for (const { name, value = '' } of options) {
    const text = `${name === '' ? '' : `-${name} `}${value}`;
    if (DISKS.has(name)) throw writable(text);
    if (name === 'drive' && isWritableDrive(new OptionValue(value, 'file'))) throw writable(text);
    if (name !== 'blockdev') continue;
    const node = new OptionValue(value, 'driver');
    // A node that only another one reaches is written by that one, or not at all.
    if (under.has(node.get('node-name') ?? '')) continue;
    if (!isNothing(node.get('driver')) && !node.isOn('read-only')) throw writable(text);
  }
}

function isWritableDrive(drive: OptionValue): boolean {
  if (drive.isOn('readonly') || drive.isOn('read-only') || drive.get('media') === 'cdrom') {
    return false;
  }
  if (isNothing(drive.get('driver')) || isNothing(drive.get('file.driver'))) return false;
  if (/^null-(co|aio):\/\//.test(drive.get('file') ?? '')) return false;
  // Without any of them the drive is empty.
  return drive.keys.some((key) => key === 'driver' || key === 'file' || key.startsWith('file.'));
}

/** Drivers that keep nothing. */
function isNothing(driver: string | undefined): boolean {
  return driver === 'null-co' || driver === 'null-aio';
}

/** The net below the net: nothing of the first cluster's folder is left, whatever option it is in. */
function refuseLeftovers(options: readonly QemuOption[], sourceDirectory: string): void {
  for (const { name, value = '' } of options) {
    if (name === 'append' || !speaksOf(value, sourceDirectory)) continue;
    // The shadow itself, mapped privately.
    if (name === 'object' && value.startsWith('memory-backend-file,')) continue;
    throw ofTheFirst(name, value);
  }
}

/** Of the folder or of what is in it; not of another cluster's, whose name begins the same. */
function speaksOf(value: string, folder: string): boolean {
  const [, ...rests] = value.split(folder);
  return rests.some((rest) => !/^[a-z0-9-]/.test(rest));
}

function writable(option: string): UmbraError {
  const hint = 'Clone diskless VMs, or attach the disk read-only (readonly=on).';
  return refused('E_CLONE_DISK', option, 'is a disk both VMs would write', hint);
}

function notIsolated(option: string): UmbraError {
  const hint =
    'Put the VMs on Umbra’s switch (network.switch), of which a clone gets its own, or add ' +
    '--disconnect: the clone’s card is there, but leads nowhere.';
  const message = 'leads to a network the first VM is on, with the same addresses';
  return refused('E_CLONE_NETWORK', option, message, hint);
}

function ofTheFirst(name: string, value: string): UmbraError {
  const hint =
    'Use what QEMU makes itself: sockets (unix:PATH,server=on,wait=off), files, null or none.';
  const message = 'belongs to the first VM; a second one cannot use it at the same time';
  return refused('E_CLONE_COMMAND', `-${name} ${value}`.trim(), message, hint);
}

function refused(code: string, option: string, message: string, hint?: string): UmbraError {
  return new UmbraError({ code, message: `${option}: ${message}`, ...(hint && { hint }) });
}
