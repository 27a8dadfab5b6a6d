/**
 * Host memory that VMs restored by `map` may take. Their RAM is a private mapping of an epoch's
 * image, in which pages of zeros are holes:
 *
 *     read    the kernel fills the image's hole with a page, and maps that (mm/shmem.c)
 *     write   the VM gets a page of its own
 *
 * Every capture has QEMU read all of a VM's RAM. So what is holes when a round is admitted is
 * memory when it ends. These bytes are counted at admission and taken at once: a QEMU that reads a
 * hole for which a full tmpfs has no page is killed (SIGBUS). After the round they are given back.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { openShadow, populate, reclaimHoles } from '../../../shadow/index.ts';
import { BLOCK_BYTES } from '../../host/linux.ts';
import { processIds } from '../../host/proc.ts';
import { type MemoryRange, parseMaps, readMapsText } from '../../host/proc-maps.ts';

const IMAGE = /^\/.*\/ram-\d+\.img$/;

/** An image of the store that a process has mapped. */
export interface MappedImage {
  readonly path: string;
  /** The name of the mapping in /proc/PID/map_files. */
  readonly range: string;
  readonly inode: string;
  readonly bytes: number;
  /** True if the file has no name any more: only its mappings keep it. */
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

/** Returns the bytes that reading all RAM of these processes may take. */
export function mappedHoles(pids: Iterable<number>): number {
  const holes = new Map<string, number>();
  for (const pid of pids) {
    for (const image of mappedImages(mapsOf(pid))) holes.set(image.inode, holesOf(pid, image));
  }
  return [...holes.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * Fills the holes of the images that these processes have mapped, before they are read. A removed
 * image is left out where this process may not open its mapping.
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
 * Makes holes again of what these processes have filled by reading; they must not be in a round.
 * Two kinds of shadows are left alone until the next call: one that another process has mapped too
 * (a VM of a clone, or a comparison), and one of a round that is held. The latter is being brought
 * to disk: if it were touched, it would have to be read again.
 * @param isHeld tells whether a round is held
 * @returns bytes given back
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
    // As text: to parse the maps of all processes of a large host would take seconds.
    const maps = mapsTextOf(pid);
    for (const folder of folders) if (maps.includes(`${folder}/`)) folders.delete(folder);
  }
  let reclaimed = 0;
  for (const folder of folders) {
    if (isHeld(basename(dirname(folder)))) continue;
    reclaimed += await reclaimHoles(await openShadow(folder));
  }
  return reclaimed;
}

function mapsTextOf(pid: number): string {
  try {
    return readMapsText(pid);
  } catch {
    return ''; // the process has ended, or is not ours to look at
  }
}

function mapsOf(pid: number): MemoryRange[] {
  try {
    const text = readMapsText(pid);
    return text.includes('/ram-') ? parseMaps(text) : []; // a VM has hundreds of others
  } catch {
    return []; // the process has ended, or is not ours to look at
  }
}

/**
 * Returns the paths to an image. A removed image is reached by its mapping alone, which takes root.
 */
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
  return image.bytes; // the most that it can be
}
