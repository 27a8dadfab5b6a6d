/**
 * The monitors of a domain's QEMU that can be reached without libvirt.
 *
 *     libvirt's own    QEMU listens, and serves one client at a time: none while libvirt is gone
 *     another one      from <qemu:commandline> in the domain's XML
 */
import { readlinkSync } from 'node:fs';
import { anotherMonitor, libvirtsMonitor } from '../command-line/monitors.ts';
import { socketInode, unixSockets } from '../host/proc.ts';
import type { DomainProcess } from './qemu-process.ts';

/** Paths of unix sockets; undefined where there is no such monitor. */
export interface DomainMonitors {
  readonly libvirts: string | undefined;
  readonly another: string | undefined;
}

/**
 * Returns the monitors of a domain's QEMU, by its command line and by the kernel's list of sockets.
 */
export function monitorsOf({ pid, commandLine }: DomainProcess): DomainMonitors {
  const { path, fd } = libvirtsMonitor(commandLine) ?? {};
  const libvirts = path ?? (fd === undefined ? undefined : boundPath(pid, fd));
  return { libvirts, another: anotherMonitor(commandLine) };
}

/**
 * Returns the path that a process's socket is bound to: no command line names it, the kernel does.
 */
function boundPath(pid: number, fd: string): string | undefined {
  try {
    const inode = socketInode(readlinkSync(`/proc/${pid}/fd/${fd}`));
    const path = unixSockets(pid).find((socket) => socket.inode === inode)?.path;
    return path === '' ? undefined : path;
  } catch {
    return undefined; // the process has ended, or is not ours to look at
  }
}
