/**
 * What VMs that were restored by `map` may make of the host's memory. Their RAM is a private mapping of an
 * epoch's image, in which pages of zeros are holes:
 *
 *     read    the kernel puts a page into the hole, of the image, and maps that (mm/shmem.c)
 *     write   a page of the VM's own
 *
 * Every capture has QEMU read all of a VM's RAM. So what is holes when a round is admitted is memory when it
 * ends: it is counted, and taken at once. A QEMU that reads a hole for which a full tmpfs has no page is
 * killed (SIGBUS), whoever has filled it. Afterwards it is taken back.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { openShadow, populate, reclaimHoles } from '../../../shadow/index.ts';
import { BLOCK_BYTES } from '../../host/linux.ts';
import { processIds } from '../../host/proc.ts';
import { type MemoryRange, readMaps } from '../../host/proc-maps.ts';

const IMAGE = /^\/.*\/ram-\d+\.img$/;

export interface MappedImage {
  readonly path: string;
  /** Name of the mapping in /proc/PID/map_files. */
  readonly range: string;
  readonly inode: string;
  readonly bytes: number;
  /** Its name is gone: only those who have it mapped have it. */
  readonly removed: boolean;
}

/** Returns the images among a process's mappings. PURE. */
export function mappedImages(maps: readonly MemoryRange[]): MappedImage[] {
  return maps
    .filter(({ access, path }) => access === 'rw-p' && IMAGE.test(path))
    .map(({ start, end, device, inode, path, bytes, removed }) => {
      const range = `${start.toString(16)}-${end.toString(16)}`;
      return { path, range, inode: `${device} ${inode}`, bytes, removed };
    });
}

/** Bytes that reading all RAM of these processes may take. */
export function mappedHoles(pids: Iterable<number>): number {
  const holes = new Map<string, number>();
  for (const pid of pids) {
    for (const image of mappedImages(mapsOf(pid))) holes.set(image.inode, holesOf(pid, image));
  }
  return [...holes.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * Has holes of what these processes have mapped be memory, before they are read. An image that was removed is left
 * out where its mapping is not ours to open.
 * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO
 */
export async function fillMappedHoles(pids: Iterable<number>): Promise<void> {
  const filled = new Set<string>();
  for (const pid of pids) {
    for (const image of mappedImages(mapsOf(pid))) {
      if (filled.has(image.inode) || holesOf(pid, image) === 0) continue;
      filled.add(image.inode);
      const way = waysTo(pid, image).find(isReadable);
      if (way !== undefined) await populate(way);
    }
  }
}

/**
 * Takes back what these processes have made of holes; they must not be in a round. Left alone, until it is
 * asked again, is a shadow of which others have an image mapped, too (a clone's VM, or someone who compares),
 * and one of a round that is held: who brings it to disk finds it touched, and has to read it again.
 * @param isHeld asked by round
 * @returns bytes taken back
 */
export async function reclaimMappedHoles(
  pids: readonly number[],
  isHeld: (round: string) => boolean,
): Promise<number> {
  const folders = new Set<string>();
  for (const pid of pids) {
    for (const { path, removed } of mappedImages(mapsOf(pid))) {
      if (!removed) folders.add(dirname(path));
    }
  }
  if (folders.size === 0) return 0;
  for (const pid of processIds().filter((one) => !pids.includes(one))) {
    const maps = mapsOf(pid);
    for (const folder of folders) {
      if (maps.some(({ path }) => path.includes(`${folder}/`))) folders.delete(folder);
    }
  }
  let reclaimed = 0;
  for (const folder of folders) {
    if (isHeld(basename(dirname(folder)))) continue;
    reclaimed += await reclaimHoles(await openShadow(folder));
  }
  return reclaimed;
}

function mapsOf(pid: number): MemoryRange[] {
  try {
    return readMaps(pid);
  } catch {
    return []; // it has ended, or is not ours to look at
  }
}

/** One that was removed while it was mapped is reached by its mapping alone, which takes root. */
function waysTo(pid: number, { path, range, removed }: MappedImage): string[] {
  return [`/proc/${pid}/map_files/${range}`, ...(removed ? [] : [path])];
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function holesOf(pid: number, image: MappedImage): number {
  for (const way of waysTo(pid, image)) {
    try {
      const { size, blocks } = statSync(way);
      return Math.max(0, size - blocks * BLOCK_BYTES);
    } catch {
      // the next way
    }
  }
  return image.bytes; // as much as it can be
}
