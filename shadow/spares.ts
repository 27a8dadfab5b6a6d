/**
 * Images of retired epochs, kept to be written again: a page of memory that is there already takes a
 * copy, a fresh one must first be found and cleared (measured: a third to a tenth of the speed).
 *
 *     SHADOWS/spare/full-LENGTH-INODE.img      holes where pages were zero
 *     SHADOWS/spare/delta-LENGTH-INODE.img     all of it memory
 *
 * What is in a spare means nothing. It is claimed by rename(2), so two cannot have the same; every page
 * of it is written in a round, or freed when its shadow is sealed.
 *
 * An image that a VM was restored from may still be mapped by that VM, which would see what is written
 * to it: such an image is never kept.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { access, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { STAT_BLOCK_BYTES } from './libc.ts';
import { type ImageKind, imageKindOf, SHADOW_FILE } from './names.ts';

const SPARE = 'spare';
const MAPPED = 'mapped';
const NAME = /^(full|delta)-(\d+)-\d+\.img$/;

/** Where a store keeps its spares. */
export function spareDirectory(shadowsDirectory: string): string {
  return join(shadowsDirectory, SPARE);
}

/** From now on, a VM may have this shadow's images mapped. */
export function markMapped(shadowDirectory: string): void {
  writeFileSync(join(shadowDirectory, MAPPED), '', { mode: 0o600 });
}

/**
 * Removes a round's shadows, all but the images nobody can have mapped. What was not sealed is not kept
 * either: a round that was aborted leaves nothing.
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

/** What the next round can use: an image takes over one spare, or none. */
export interface SparesWanted {
  /** Lengths of the full images it will write. */
  readonly full: readonly number[];
  /** What each of its deltas is expected to take, bytes. */
  readonly deltas: readonly number[];
}

/**
 * Drops the spares that the next round cannot use. For a delta, the one is kept that comes nearest to what it
 * is expected to take, and is no longer.
 * @returns bytes of memory the rest occupies
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

/** The image that looks for a spare. */
export interface SpareTaker {
  readonly kind: ImageKind;
  /** Of a full image, all of it; of a delta, what it is to have from the start. */
  readonly length: number;
  /** Of the block: a delta never has more. */
  readonly blockBytes: number;
}

/**
 * Moves a spare to `path`, if there is one that will do: a full image of that length, or the delta that
 * is nearest to it.
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
      // another member was faster: the next one
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
