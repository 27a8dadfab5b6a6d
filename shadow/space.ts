/**
 * Memory that epochs occupy, by folder. An epoch reaches the folders of its own shadows and, for a
 * shadow that is a delta, the folders of the chain of its bases:
 *
 *     epoch 7 ──▶ r000007/a ──base──▶ r000005/a ◀── r000005 ◀── epoch 5
 *
 *     own      folders that no other epoch reaches: removing this epoch alone would free them
 *     shared   folders that others reach, too: each counts in full for every epoch that reaches it
 *
 * Counted by the kernel's blocks, as in room.ts. An image that is unlinked but still mapped by a VM
 * belongs to no epoch, and is not counted.
 */
import { join } from 'node:path';
import { ShadowError } from './errors.ts';
import type { EpochManifest } from './manifest.ts';
import { occupiedBytes } from './room.ts';
import { readBases } from './sealed-shadow.ts';

export interface EpochSpace {
  readonly ownBytes: number;
  readonly sharedBytes: number;
}

/** Measures the memory of epochs. @returns by epoch; a folder that is gone counts nothing */
export async function measureEpochs(
  shadowsDirectory: string,
  epochs: readonly EpochManifest[],
): Promise<ReadonlyMap<number, EpochSpace>> {
  const reached = new Map<number, ReadonlySet<string>>();
  for (const epoch of epochs) reached.set(epoch.epoch, await foldersOf(shadowsDirectory, epoch));
  const reachedBy = new Map<string, number>();
  for (const folder of [...reached.values()].flatMap((folders) => [...folders])) {
    reachedBy.set(folder, (reachedBy.get(folder) ?? 0) + 1);
  }
  const sizes = new Map<string, number>();
  for (const folder of reachedBy.keys()) sizes.set(folder, await occupiedBytes(folder));
  const sum = (folders: readonly string[]) =>
    folders.reduce((total, folder) => total + (sizes.get(folder) ?? 0), 0);
  return new Map(
    [...reached].map(([epoch, folders]) => {
      const own = [...folders].filter((folder) => reachedBy.get(folder) === 1);
      const shared = [...folders].filter((folder) => reachedBy.get(folder) !== 1);
      return [epoch, { ownBytes: sum(own), sharedBytes: sum(shared) }];
    }),
  );
}

async function foldersOf(shadows: string, epoch: EpochManifest): Promise<ReadonlySet<string>> {
  const folders = new Set<string>();
  for (const { name } of epoch.members) {
    const folder = join(shadows, epoch.round, name);
    folders.add(folder);
    // A shadow that cannot be read names no base; to find out why is the task of `verify`.
    try {
      for (const base of readBases(shadows, epoch.round, name)) {
        folders.add(join(shadows, base, name));
      }
    } catch (error) {
      if (!(error instanceof ShadowError)) throw error;
    }
  }
  return folders;
}
