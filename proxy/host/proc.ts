/** Facts about processes and their sockets, from /proc (proc(5)). */
import { readdirSync, readFileSync } from 'node:fs';

/** The flag of a socket that listens, in /proc/net/unix: __SO_ACCEPTCON (<linux/net.h>). */
const ACCEPTS = 0x10000;

/** Returns the processes of this host. */
export function processIds(): number[] {
  return readdirSync('/proc').map(Number).filter(Number.isInteger);
}

/** Returns the command line of a process, word by word; empty if the process has ended. */
export function commandLineOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** One unix socket of a network namespace. */
export interface UnixSocket {
  readonly inode: string;
  readonly listens: boolean;
  /** The path it was bound to, which may be relative to its process's folder; '' if it has none. */
  readonly path: string;
}

/**
 * Reads the unix sockets of the network namespace a process is in: /proc/PID/net/unix, with the
 * columns Num RefCount Protocol Flags Type St Inode Path.
 * @throws Error if the process has ended, or this one may not look at it
 */
export function unixSockets(pid: number | 'self'): UnixSocket[] {
  const [, ...lines] = readFileSync(`/proc/${pid}/net/unix`, 'utf8').split('\n');
  return lines
    .filter((line) => line !== '')
    .map((line) => {
      const [, , , flags = '', , , inode = '', ...path] = line.trim().split(/\s+/);
      const listens = (Number.parseInt(flags, 16) & ACCEPTS) !== 0;
      return { inode, listens, path: path.join(' ') };
    });
}

/** Returns the inode in the target of a link /proc/PID/fd/N; undefined if that is no socket. */
export function socketInode(link: string): string | undefined {
  return /^socket:\[(\d+)\]$/.exec(link)?.[1];
}
