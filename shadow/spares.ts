/**
 * Images of retired epochs, kept to be written again: a page of memory that is there already takes a
 * copy, a fresh one must first be found and cleared (measured: a third to a tenth of the speed).
 *
 *     SHADOWS/spare/LENGTH-INODE.img       one image of LENGTH bytes, holes where pages were zero
 *
 * What is in a spare means nothing. It is claimed by rename(2), so two cannot have the same; every page
 * of it is written in a round, or freed when its shadow is sealed.
 *
 * An image that a VM was restored from may still be mapped by that VM, which would see what is written
 * to it: such an image is never kept.
 */
import { renameSync } from 'node:fs';
import { access, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const SPARE = 'spare';
const MAPPED = 'mapped';
const IMAGE = /^ram-\d+\.img$/;
const NAME = /^(\d+)-\d+\.img$/;
const BLOCK_BYTES = 512;

/** Where a store keeps its spares. */
export function spareDirectory(shadowsDirectory: string): string {
  return join(shadowsDirectory, SPARE);
}

/** From now on, a VM may have this shadow's images mapped. */
export async function markMapped(shadowDirectory: string): Promise<void> {
  await writeFile(join(shadowDirectory, MAPPED), '', { mode: 0o600 });
}

/** Removes a retired round's shadows, all but the images nobody can have mapped. */
export async function recycleShadows(shadowsDirectory: string, round: string): Promise<void> {
  const spares = spareDirectory(shadowsDirectory);
  await mkdir(spares, { recursive: true, mode: 0o700 });
  for (const member of await readdir(join(shadowsDirectory, round)).catch(() => [])) {
    const directory = join(shadowsDirectory, round, member);
    if (!(await stat(directory)).isDirectory()) continue;
    if (await exists(join(directory, MAPPED))) continue;
    for (const file of await readdir(directory)) {
      if (!IMAGE.test(file)) continue;
      const path = join(directory, file);
      const { size, ino } = await stat(path);
      await rename(path, join(spares, `${size}-${ino}.img`));
    }
  }
  await rm(join(shadowsDirectory, round), { recursive: true, force: true });
}

/**
 * Drops the spares that no image of these lengths can use.
 * @returns bytes of memory the rest occupies
 */
export async function pruneSpares(
  shadowsDirectory: string,
  lengths: readonly number[],
): Promise<number> {
  const spares = spareDirectory(shadowsDirectory);
  const wanted = [...lengths];
  let occupied = 0;
  for (const name of await readdir(spares).catch(() => [])) {
    const path = join(spares, name);
    const at = wanted.indexOf(lengthOf(name));
    if (at < 0) await rm(path, { force: true });
    else {
      wanted.splice(at, 1);
      occupied += ((await stat(path).catch(() => undefined))?.blocks ?? 0) * BLOCK_BYTES;
    }
  }
  return occupied;
}

/** Moves a spare of that length to `path`, if there is one. */
export async function takeSpare(spares: string, length: number, path: string): Promise<boolean> {
  for (const name of await readdir(spares).catch(() => [])) {
    if (lengthOf(name) !== length) continue;
    try {
      renameSync(join(spares, name), path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      // another member was faster: the next one
    }
  }
  return false;
}

function lengthOf(name: string): number {
  return Number(NAME.exec(name)?.[1] ?? Number.NaN);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
}
