/**
 * Room: the memory that the host can still give. A tmpfs is as large as RAM: filling it starts the
 * OOM killer instead of returning ENOSPC, so Umbra measures before it writes.
 */
import { readFileSync, statfsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ShadowError } from './errors.ts';
import { STAT_BLOCK_BYTES } from './libc.ts';

export interface Room {
  /** Bytes that may be stored below `directory` now, without swapping or killing a process. */
  readonly availableBytes: number;
  /** Cause of that limit. */
  readonly limitedBy: 'memory' | 'cgroup' | 'filesystem';
}

/** Files in which the kernel accounts for memory: proc(5), and control groups of version 2. */
export interface Accounts {
  readonly proc: string;
  readonly cgroups: string;
  /** Process whose control groups count: the one that is charged for the memory. */
  readonly process: number | 'self';
}

const ACCOUNTS: Accounts = { proc: '/proc', cgroups: '/sys/fs/cgroup', process: 'self' };
/** Attempts to walk a folder that other processes change. */
const WALKS = 5;

/**
 * Measures the room below a folder. Synchronous, because it is called in the middle of a stream as
 * well: it takes about 100 µs.
 */
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
 * Checks that there is room.
 * @param headroomBytes must stay free for the rest of the host
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
 * Returns the memory that files below a folder occupy, by the kernel's count of their blocks; 0 if
 * there is no such folder. A file that is unlinked but mapped by a VM that was restored from it is
 * not counted.
 */
export async function occupiedBytes(directory: string): Promise<number> {
  const there = await stat(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (there === undefined) return 0;
  const names = await listAll(directory, WALKS);
  const sizes = await Promise.all(
    names.map(async (name) => {
      // A file that is removed in the meantime occupies nothing.
      const stats = await stat(join(directory, name)).catch(() => undefined);
      return stats?.isFile() ? stats.blocks * STAT_BLOCK_BYTES : 0;
    }),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * Lists a folder with all below it. If a folder disappears in the middle of a walk, it walks again.
 */
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

/**
 * Returns what each control group of a process leaves, its own and those around it. Groups without
 * a limit are left out.
 */
function cgroupsAvailable({ proc, cgroups, process }: Accounts): number[] {
  const groups = readFileSync(join(proc, String(process), 'cgroup'), 'latin1');
  const own = /^0::\/(.*)$/m.exec(groups)?.[1];
  if (own === undefined) return []; // a kernel without version 2
  // `..` leads out of this namespace.
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
    return undefined; // the root, or a group without a memory controller
  }
  if (limit === 'max') return undefined;
  const used = Number(readFileSync(join(folder, 'memory.current'), 'latin1'));
  const stat = readFileSync(join(folder, 'memory.stat'), 'latin1');
  // Cached files count as used, but are dropped when memory is needed. Files of tmpfs are not among
  // them: they are shmem, which counts as anonymous memory.
  const cached = Number(/^inactive_file (\d+)$/m.exec(stat)?.[1] ?? 0);
  return Math.max(0, Number(limit) - used + cached);
}
