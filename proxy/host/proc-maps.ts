/**
 * The memory map of a process: /proc/PID/maps (proc_pid_maps(5)).
 *
 *     7fde17fff000-7fde37fff000 rw-p 00000000 00:1b 756305     /dev/shm/…/ram-0.img (deleted)
 *     start        end          │    offset   │     inode      path                  removed
 *                               │             device, major:minor, hexadecimal
 *                               read, write, execute; p for private, s for shared
 */
import { readFileSync } from 'node:fs';

/** One line of a memory map. */
export interface MemoryRange {
  readonly start: bigint;
  /** The first address after it. */
  readonly end: bigint;
  readonly bytes: number;
  readonly isWritable: boolean;
  readonly isPrivate: boolean;
  /** `rw-p` and the like, as the kernel writes it. */
  readonly access: string;
  readonly device: string;
  /** 0 if no file is behind the memory. */
  readonly inode: number;
  /** '' without a file or a name; the kernel's own names are in brackets (`[heap]`). */
  readonly path: string;
  /** The file has no name any more: only its mappings and descriptors reach it. */
  readonly removed: boolean;
}

const LINE =
  /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*?)( \(deleted\))?$/gm;

/** Returns the ranges of a memory map, in the order of their addresses. */
export function parseMaps(text: string): MemoryRange[] {
  return [...text.matchAll(LINE)].map((match) => {
    const [, from = '', to = '', access = '', device = '', inode, path = '', deleted] = match;
    const start = BigInt(`0x${from}`);
    const end = BigInt(`0x${to}`);
    return {
      start,
      end,
      bytes: Number(end - start),
      isWritable: access[1] === 'w',
      isPrivate: access.endsWith('p'),
      access,
      device,
      inode: Number(inode),
      path,
      removed: deleted !== undefined,
    };
  });
}

/** Returns /proc/PID/maps as it is. @throws Error if the process has ended, or may not be read */
export function readMapsText(pid: number): string {
  return readFileSync(`/proc/${pid}/maps`, 'utf8');
}

/**
 * Reads the memory map of a process.
 * @throws Error if the process has ended, or this one may not look at it
 */
export function readMaps(pid: number): MemoryRange[] {
  return parseMaps(readMapsText(pid));
}

/** Returns a device number of stat(2) as a memory map writes it: `00:1b`. */
export function deviceOf(dev: number): string {
  return [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)]
    .map((part) => part.toString(16).padStart(2, '0'))
    .join(':');
}
