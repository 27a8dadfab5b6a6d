/**
 * Pins: marks of epochs that an operator wants kept. A pin is an empty file beside the epoch's
 * manifest, which stays as it is; it takes no memory. An epoch that is on disk as well has a pin
 * there, too:
 *
 *     CATALOGUE/000007.json           DIR/CLUSTER/epochs/000007.json
 *     CATALOGUE/000007.pin            DIR/CLUSTER/epochs/000007.pin
 *
 * A pin outlives every process of Umbra. Umbra removes no pinned epoch, so a pin without a manifest
 * means that another program has removed the manifest. Such a pin never applies to another epoch,
 * because no number is used twice.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { epochOfPin, pinFile } from './names.ts';
import { syncFolder } from './synced.ts';

/** Returns the numbers of the pinned epochs. */
export async function pinnedEpochs(catalogueDirectory: string): Promise<ReadonlySet<number>> {
  const names = await readdir(catalogueDirectory);
  return new Set(names.flatMap((name) => epochOfPin(name) ?? []));
}

/** Pins an epoch. Idempotent. The pin is on its device when this returns. */
export async function pinEpoch(catalogueDirectory: string, epoch: number): Promise<void> {
  await writeFile(pinPath(catalogueDirectory, epoch), '', { mode: 0o600 });
  await syncFolder(catalogueDirectory);
}

/** Removes an epoch's pin. Idempotent; as durable as pinEpoch. */
export async function unpinEpoch(catalogueDirectory: string, epoch: number): Promise<void> {
  await rm(pinPath(catalogueDirectory, epoch), { force: true });
  await syncFolder(catalogueDirectory);
}

function pinPath(catalogueDirectory: string, epoch: number): string {
  return join(catalogueDirectory, pinFile(epoch));
}
