/**
 * Pins: epochs an operator wants kept. A pin is an empty file beside the epoch's manifest, whose bytes
 * stay as they are; it takes no memory. An epoch that is on disk, too, has one there as well:
 *
 *     CATALOGUE/000007.json           DIR/CLUSTER/epochs/000007.json
 *     CATALOGUE/000007.pin            DIR/CLUSTER/epochs/000007.pin
 *
 * It outlives every process of ours. A pinned epoch is not removed, so there is no pin without its manifest,
 * unless someone else removed that; and no number is used twice, so such a pin never comes to mean anything.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { epochOfPin, pinFile } from './names.ts';
import { syncFolder } from './synced.ts';

/** Numbers of the epochs that are pinned. */
export async function pinnedEpochs(catalogueDirectory: string): Promise<ReadonlySet<number>> {
  const names = await readdir(catalogueDirectory);
  return new Set(names.flatMap((name) => epochOfPin(name) ?? []));
}

/** Idempotent, as is `unpinEpoch`; either is on its device when it returns. */
export async function pinEpoch(catalogueDirectory: string, epoch: number): Promise<void> {
  await writeFile(pinPath(catalogueDirectory, epoch), '', { mode: 0o600 });
  await syncFolder(catalogueDirectory);
}

export async function unpinEpoch(catalogueDirectory: string, epoch: number): Promise<void> {
  await rm(pinPath(catalogueDirectory, epoch), { force: true });
  await syncFolder(catalogueDirectory);
}

function pinPath(catalogueDirectory: string, epoch: number): string {
  return join(catalogueDirectory, pinFile(epoch));
}
