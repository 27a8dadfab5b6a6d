/**
 * Spares: images of retired epochs, kept to be written again. Memory that a file already has takes
 * a copy; fresh memory must first be found and cleared (measured: a third to a tenth of the speed).
 *
 *     SHADOWS/spare/full-LENGTH-INODE.img      holes where pages were zero
 *     SHADOWS/spare/delta-LENGTH-INODE.img     memory throughout
 *
 * The content of a spare means nothing: every page of it is written in a round, or freed when its
 * shadow is sealed. A spare is claimed by rename(2), so that two images cannot claim the same one.
 *
 * An image that a VM was restored from may still be mapped by that VM, which would see what is
 * written to it. Such an image never becomes a spare.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { access, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { STAT_BLOCK_BYTES } from './libc.ts';
import { type ImageKind, imageKindOf, SHADOW_FILE } from './names.ts';

const SPARE = 'spare';
const MAPPED = 'mapped';
const NAME = /^(full|delta)-(\d+)-\d+\.img$/;

/** Returns the folder in which a store keeps its spares. */
export function spareDirectory(shadowsDirectory: string): string {
  return join(shadowsDirectory, SPARE);
}

/** Notes that a VM may have this shadow's images mapped, from now on. */
export function markMapped(shadowDirectory: string): void {
  writeFileSync(join(shadowDirectory, MAPPED), '', { mode: 0o600 });
}

/**
 * Removes a round's shadows, but keeps as spares the images that no VM can have mapped. Images of a
 * shadow that was not sealed are removed, too: an aborted round leaves nothing.
 */
export async function recycleShadows(shadowsDirectory: string, round: string): Promise<void> {
  const spares = spareDirectory(shadowsDirectory);
  for (const member of await readdir(join(shadowsDirectory, round)).catch(() => [])) {
    const directory = join(shadowsDirectory, round, member);
    if (!(await stat(directory)).isDirectory()) continue;
    const isSealed = await exists(join(directory, SHADOW_FILE));
    if (!isSealed || (await exists(join(directory, MAPPED)))) continue;
    await mkdir(spares, { recursive: true, mode: 0o700 });
    for (const file of await readdir(directory)) {
      const kind = imageKindOf(file);
      if (kind === undefined) continue;
      const path = join(directory, file);
      const { size, ino } = await stat(path);
      if (size > 0) await rename(path, join(spares, `${kind}-${size}-${ino}.img`));
    }
  }
  await rm(join(shadowsDirectory, round), { recursive: true, force: true });
}

/** Spares that the next round can use: each of its images takes over one spare, or none. */
export interface SparesWanted {
  /** Lengths of the full images it will write. */
  readonly full: readonly number[];
  /** Lengths that its deltas are expected to have, bytes. */
  readonly deltas: readonly number[];
}

/**
 * Removes the spares that the next round cannot use. For each delta it keeps the longest spare that
 * does not exceed the expected length.
 * @returns bytes of memory that the remaining spares occupy
 */
export async function pruneSpares(
  shadowsDirectory: string,
  { full, deltas }: SparesWanted,
): Promise<number> {
  const spares = spareDirectory(shadowsDirectory);
  const left = new Set((await listSpares(spares)).sort(longestFirst));
  const kept: Spare[] = [];
  const keepOne = (fits: (spare: Spare) => boolean) => {
    const spare = [...left].find(fits);
    if (spare !== undefined && left.delete(spare)) kept.push(spare);
  };
  for (const wanted of full) keepOne(({ kind, length }) => kind === 'full' && length === wanted);
  for (const wanted of [...deltas].sort((a, b) => b - a)) {
    keepOne(({ kind, length }) => kind === 'delta' && length <= wanted);
  }
  for (const { name } of left) await rm(join(spares, name), { force: true });
  const stats = await Promise.all(
    kept.map(({ name }) => stat(join(spares, name)).catch(() => undefined)),
  );
  return stats.reduce((sum, one) => sum + (one?.blocks ?? 0) * STAT_BLOCK_BYTES, 0);
}

function longestFirst(a: Spare, b: Spare): number {
  return b.length - a.length;
}

/** Image that could take over a spare. */
export interface SpareTaker {
  readonly kind: ImageKind;
  /** Length of a full image; of a delta, the length it is to have from the start. */
  readonly length: number;
  /** Length of the RAM block: no delta is longer. */
  readonly blockBytes: number;
}

/**
 * Moves a spare to `path`, if one fits: for a full image, one of exactly its length; for a delta,
 * the one whose length is nearest.
 * @returns false if none fits
 */
export async function takeSpare(
  spares: string,
  { kind, length, blockBytes }: SpareTaker,
  path: string,
): Promise<boolean> {
  const fitting = (await listSpares(spares)).filter((spare) => {
    if (spare.kind !== kind) return false;
    return kind === 'full' ? spare.length === length : spare.length <= blockBytes;
  });
  fitting.sort((a, b) => Math.abs(a.length - length) - Math.abs(b.length - length));
  for (const { name } of fitting) {
    try {
      renameSync(join(spares, name), path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      // another member has claimed it: try the next one
    }
  }
  return false;
}

interface Spare {
  readonly name: string;
  readonly kind: ImageKind;
  readonly length: number;
}

async function listSpares(directory: string): Promise<Spare[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.flatMap((name) => {
    const [, kind, length] = NAME.exec(name) ?? [];
    if (kind !== 'full' && kind !== 'delta') return [];
    return { name, kind, length: Number(length) };
  });
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
