/**
 * Monitors of a domain's QEMU that can be reached without libvirt, by its command line.
 *
 *     -chardev socket,id=charmonitor,fd=21,server=on,wait=off     libvirt's. QEMU listens, and serves one
 *                                                                 at a time: nobody while libvirt is gone
 *     -qmp unix:PATH,server=on,wait=off                           one more, from <qemu:commandline>
 */
import { readFileSync, readlinkSync } from 'node:fs';
import type { DomainProcess } from './qemu-process.ts';

const LIBVIRTS = 'charmonitor';

export interface DomainMonitors {
  readonly libvirts: string | undefined;
  readonly another: string | undefined;
}

export function monitorsOf({ pid, commandLine }: DomainProcess): DomainMonitors {
  return { libvirts: libvirtsMonitor(pid, commandLine), another: anotherMonitor(commandLine) };
}

/** PURE. */
export function anotherMonitor(commandLine: readonly string[]): string | undefined {
  for (const [at, word] of commandLine.entries()) {
    const value = commandLine[at + 1] ?? '';
    if (word === '-qmp' && value.startsWith('unix:')) return pathOf(value.slice('unix:'.length));
    if (word !== '-mon' || !/(^|,)mode=control(,|$)/.test(value)) continue;
    const [, chardev] = /(?:^|,)chardev=([^,]+)/.exec(value) ?? [];
    if (chardev === undefined || chardev === LIBVIRTS) continue;
    const [, path] = /,path=(.*)$/.exec(chardevOf(commandLine, chardev) ?? '') ?? [];
    if (path !== undefined) return pathOf(path);
  }
  return undefined;
}

/** Its descriptor's name is nowhere on the command line, but the kernel knows it. */
function libvirtsMonitor(pid: number, commandLine: readonly string[]): string | undefined {
  const value = chardevOf(commandLine, LIBVIRTS) ?? '';
  const [, path] = /,path=(.*)$/.exec(value) ?? [];
  if (path !== undefined) return pathOf(path);
  const [, fd] = /,fd=(\d+)(,|$)/.exec(value) ?? [];
  try {
    const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? [];
    return boundPath(readFileSync(`/proc/${pid}/net/unix`, 'utf8'), inode);
  } catch {
    return undefined; // it has gone, or is not ours to look at
  }
}

/** Columns: Num RefCount Protocol Flags Type St Inode Path. PURE. */
function boundPath(sockets: string, inode: string | undefined): string | undefined {
  for (const line of sockets.split('\n')) {
    const [, , , , , , number, ...path] = line.trim().split(/\s+/);
    if (inode !== undefined && number === inode && path.length > 0) return path.join(' ');
  }
  return undefined;
}

function chardevOf(commandLine: readonly string[], id: string): string | undefined {
  return commandLine.find((word, at) => {
    return commandLine[at - 1] === '-chardev' && `${word},`.startsWith(`socket,id=${id},`);
  });
}

/** The first of QEMU's comma-separated values, in which a doubled comma is a comma. */
function pathOf(text: string): string {
  return (/^(?:[^,]|,,)*/.exec(text)?.[0] ?? '').replaceAll(',,', ',');
}
