/**
 * The monitors a QEMU offers, by its command line. PURE.
 *
 *     -qmp unix:PATH,server=on,wait=off                           a monitor on a socket
 *     -chardev socket,id=ID,path=PATH,… -mon chardev=ID,mode=control      the same, in two options
 *     -chardev socket,id=charmonitor,fd=21,server=on,wait=off     libvirt's: QEMU has inherited the
 *                                                                 socket, and its path is not named
 */
import { optionsOf, type QemuOption } from './option-list.ts';
import { OptionValue } from './option-value.ts';

/** The name of the character device that libvirt gives to its own monitor. */
const LIBVIRTS = 'charmonitor';

/** A listening socket of a QEMU: its path, or the descriptor under which QEMU has inherited it. */
export interface MonitorSocket {
  readonly path: string | undefined;
  readonly fd: string | undefined;
}

/** Returns the path of the first `-qmp` unix socket; undefined if there is none. */
export function qmpSocketOf(commandLine: readonly string[]): string | undefined {
  for (const option of optionsOf(commandLine)) {
    const path = qmpSocket(option);
    if (path !== undefined) return path;
  }
  return undefined;
}

/** Returns the path of a QMP monitor that is not libvirt's; undefined if there is none. */
export function anotherMonitor(commandLine: readonly string[]): string | undefined {
  const options = optionsOf(commandLine);
  for (const option of options) {
    const path = qmpSocket(option) ?? controlSocket(option, options);
    if (path !== undefined) return path;
  }
  return undefined;
}

/** Returns where libvirt's own monitor is; undefined if QEMU has none. */
export function libvirtsMonitor(commandLine: readonly string[]): MonitorSocket | undefined {
  return chardev(optionsOf(commandLine), LIBVIRTS);
}

function qmpSocket({ name, value = '' }: QemuOption): string | undefined {
  if (name !== 'qmp' || !value.startsWith('unix:')) return undefined;
  const path = new OptionValue(value.slice('unix:'.length), 'path').get('path');
  return path === '' ? undefined : path;
}

function controlSocket(
  { name, value = '' }: QemuOption,
  options: readonly QemuOption[],
): string | undefined {
  if (name !== 'mon') return undefined;
  const monitor = new OptionValue(value, 'chardev');
  const id = monitor.get('chardev');
  if (monitor.get('mode') !== 'control' || id === undefined || id === LIBVIRTS) return undefined;
  return chardev(options, id)?.path;
}

function chardev(options: readonly QemuOption[], id: string): MonitorSocket | undefined {
  for (const { name, value = '' } of options) {
    if (name !== 'chardev') continue;
    const device = new OptionValue(value, 'backend');
    if (device.get('backend') !== 'socket' || device.get('id') !== id) continue;
    return { path: device.get('path'), fd: device.get('fd') };
  }
  return undefined;
}
