/**
 * How much memory the host can still give. tmpfs is as large as RAM: filling it wakes the OOM killer
 * instead of returning ENOSPC, so Umbra asks before it writes.
 */
import { readdir, readFile, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { ShadowError } from './errors.ts';

export interface Room {
  /** Bytes that may be stored below `directory` now, without swapping or killing anything. */
  readonly availableBytes: number;
  /** What sets that limit. */
  readonly limitedBy: 'memory' | 'cgroup' | 'filesystem';
}

/** The unit of st_blocks, whatever the filesystem (stat(2)). */
const BLOCK_BYTES = 512;
const WALKS = 5;

/** Reads the kernel's own accounts: /proc/meminfo, the process's cgroup, statfs. */
export async function measureRoom(directory: string): Promise<Room> {
  const stats = await statfs(directory);
  const candidates: Room[] = [
    { availableBytes: await memoryAvailable(), limitedBy: 'memory' },
    { availableBytes: stats.bavail * stats.bsize, limitedBy: 'filesystem' },
  ];
  const cgroup = await cgroupAvailable();
  if (cgroup !== undefined) candidates.push({ availableBytes: cgroup, limitedBy: 'cgroup' });
  return candidates.reduce((least, room) =>
    room.availableBytes < least.availableBytes ? room : least,
  );
}

/**
 * @param headroomBytes what must stay free for the rest of the host
 * @throws ShadowError E_STORE_NO_ROOM, with `missingBytes`
 */
export async function requireRoom(
  directory: string,
  neededBytes: number,
  headroomBytes: number,
): Promise<void> {
  const { availableBytes, limitedBy } = await measureRoom(directory);
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
      return stats?.isFile() ? stats.blocks * BLOCK_BYTES : 0;
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

async function memoryAvailable(): Promise<number> {
  const meminfo = await readFile('/proc/meminfo', 'utf8');
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  return Number(kibibytes ?? 0) * 1024;
}

/** cgroup v2 only; undefined where the process is not limited. */
async function cgroupAvailable(): Promise<number | undefined> {
  try {
    const own = /^0::(.*)$/m.exec(await readFile('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
    const folder = `/sys/fs/cgroup${own}`;
    const limit = (await readFile(`${folder}/memory.max`, 'utf8')).trim();
    if (limit === 'max') return undefined;
    return Number(limit) - Number(await readFile(`${folder}/memory.current`, 'utf8'));
  } catch {
    return undefined; // no cgroup v2 here, or the root cgroup, which has no limit
  }
}
