/**
 * How much memory the host can still give. tmpfs is as large as RAM: filling it wakes the OOM killer
 * instead of returning ENOSPC, so Umbra asks before it writes.
 */
import { readFileSync, statfsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ShadowError } from './errors.ts';
import { STAT_BLOCK_BYTES } from './libc.ts';

export interface Room {
  /** Bytes that may be stored below `directory` now, without swapping or killing anything. */
  readonly availableBytes: number;
  /** What sets that limit. */
  readonly limitedBy: 'memory' | 'cgroup' | 'filesystem';
}

/** Where the kernel tells: proc(5), and control groups of version 2. */
export interface Accounts {
  readonly proc: string;
  readonly cgroups: string;
  /** Whose groups count: who is charged for the memory. */
  readonly process: number | 'self';
}

const ACCOUNTS: Accounts = { proc: '/proc', cgroups: '/sys/fs/cgroup', process: 'self' };
const WALKS = 5;

/** At once, for it is also asked in the middle of a stream: about 100 µs. */
export function measureRoom(directory: string, others: Partial<Accounts> = {}): Room {
  const accounts = { ...ACCOUNTS, ...others };
  const { bavail, bsize } = statfsSync(directory);
  const candidates: Room[] = [
    { availableBytes: memoryAvailable(accounts), limitedBy: 'memory' },
    { availableBytes: bavail * bsize, limitedBy: 'filesystem' },
    ...cgroupsAvailable(accounts).map((availableBytes) => {
      return { availableBytes, limitedBy: 'cgroup' } as const;
    }),
  ];
  return candidates.reduce((least, room) =>
    room.availableBytes < least.availableBytes ? room : least,
  );
}

/**
 * @param headroomBytes what must stay free for the rest of the host
 * @throws ShadowError E_STORE_NO_ROOM, with `missingBytes`
 */
export function requireRoom(directory: string, neededBytes: number, headroomBytes: number): void {
  const { availableBytes, limitedBy } = measureRoom(directory);
  const missingBytes = neededBytes + headroomBytes - availableBytes;
  if (missingBytes <= 0) return;
  throw new ShadowError(
    'E_STORE_NO_ROOM',
    `${neededBytes} bytes are needed and ${headroomBytes} must stay free, but only ` +
      `${availableBytes} are available (limit: ${limitedBy}): ${missingBytes} bytes are missing`,
    { path: directory, missingBytes },
  );
}

/**
 * Memory the files below a folder hold, by the kernel's count of their blocks; 0 if it is not there.
 * A file that is unlinked, but mapped by a VM that was restored from it, is not seen.
 */
export async function occupiedBytes(directory: string): Promise<number> {
  const there = await stat(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (there === undefined) return 0;
  const names = await listAll(directory, WALKS);
  const sizes = await Promise.all(
    names.map(async (name) => {
      // What goes away meanwhile occupies nothing.
      const stats = await stat(join(directory, name)).catch(() => undefined);
      return stats?.isFile() ? stats.blocks * STAT_BLOCK_BYTES : 0;
    }),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** A folder may go away in the middle of a walk: then it is walked again. */
async function listAll(directory: string, walks: number): Promise<string[]> {
  try {
    return await readdir(directory, { recursive: true });
  } catch (error) {
    if (walks <= 1) throw error;
    return listAll(directory, walks - 1);
  }
}

function memoryAvailable({ proc }: Accounts): number {
  const meminfo = readFileSync(join(proc, 'meminfo'), 'latin1');
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  return Number(kibibytes ?? 0) * 1024;
}

/** What each group a process is in leaves, its own and those around it; nothing of those without a limit. */
function cgroupsAvailable({ proc, cgroups, process }: Accounts): number[] {
  const groups = readFileSync(join(proc, String(process), 'cgroup'), 'latin1');
  const own = /^0::\/(.*)$/m.exec(groups)?.[1];
  if (own === undefined) return []; // a kernel without version 2
  // `..` leads out of what this namespace shows.
  const names = own.split('/').filter((name) => name !== '' && name !== '..');
  const folders = [cgroups, ...names.map((_, at) => join(cgroups, ...names.slice(0, at + 1)))];
  return folders.flatMap((folder) => groupAvailable(folder) ?? []);
}

function groupAvailable(folder: string): number | undefined {
  let limit: string;
  try {
    limit = readFileSync(join(folder, 'memory.max'), 'latin1').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined; // the root, or a group whose memory nobody controls
  }
  if (limit === 'max') return undefined;
  const used = Number(readFileSync(join(folder, 'memory.current'), 'latin1'));
  const stat = readFileSync(join(folder, 'memory.stat'), 'latin1');
  // Cached files count as used, but make way; tmpfs is not among them (it is shmem, and anonymous).
  const cached = Number(/^inactive_file (\d+)$/m.exec(stat)?.[1] ?? 0);
  return Math.max(0, Number(limit) - used + cached);
}
