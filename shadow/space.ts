/**
 * Memory epochs take, by folder. An epoch reaches the folders it names, and, of a shadow that is stored
 * as a difference, the folder of its base:
 *
 *     epoch 7 ──▶ r000007/a ──base──▶ r000005/a ◀── r000005 ◀── epoch 5
 *
 *     own      folders no other epoch reaches: what removing this one alone would free
 *     shared   folders others reach, too: each counts in full for every epoch that does
 *
 * By the kernel's count of blocks, as in room.ts. An image that was unlinked but is still mapped by a VM
 * belongs to no epoch, and is not seen.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type EpochManifest, MANIFEST_LIMIT_BYTES } from './manifest.ts';
import { occupiedBytes } from './room.ts';

export interface EpochSpace {
  readonly ownBytes: number;
  readonly sharedBytes: number;
}

/** As much of a shadow.json as counts here. What is damaged elsewhere is a matter of `verify`. */
const baseSchema = z.object({
  body: z.object({ base: z.object({ round: z.string().regex(/^[A-Za-z0-9][\w.-]{0,127}$/) }) }),
});

/** @returns by epoch; a folder that is gone counts nothing */
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
    const base = await baseRound(join(folder, 'shadow.json'));
    if (base !== undefined) folders.add(join(shadows, base, name));
  }
  return folders;
}

async function baseRound(manifest: string): Promise<string | undefined> {
  try {
    if ((await stat(manifest)).size > MANIFEST_LIMIT_BYTES) return undefined;
    const parsed = baseSchema.safeParse(JSON.parse(await readFile(manifest, 'utf8')));
    return parsed.data?.body.base.round;
  } catch {
    return undefined; // gone, or no manifest: it names no base
  }
}
