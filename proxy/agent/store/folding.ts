/** Folds an epoch: writes the shadows of all its members anew, as full ones (shadow/fold.ts). */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type EpochManifest,
  foldShadow,
  type SealedShadow,
  spareDirectory,
} from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { faultPoint } from '../../failure/fault-point.ts';

/** The folder a fold writes to: that of a round. */
export interface FoldLocation {
  readonly shadowsDirectory: string;
  readonly round: string;
}

/**
 * Folds one member after the other: nothing waits for a fold, and the cores belong to the guests.
 * @param onFolded called with the folder of each shadow when it is sealed
 * @returns the members of the folded epoch
 * @throws UmbraError; the round's folder is removed then
 */
export async function foldEpoch(
  { members }: EpochManifest,
  shadows: readonly SealedShadow[],
  { shadowsDirectory, round }: FoldLocation,
  signal: AbortSignal,
  onFolded: (directory: string) => void,
): Promise<EpochManifest['members']> {
  const folder = join(shadowsDirectory, round);
  const spares = spareDirectory(shadowsDirectory);
  const folded: EpochManifest['members'] = [];
  await mkdir(folder, { mode: 0o700 });
  try {
    for (const [index, member] of members.entries()) {
      const { name } = member;
      const shadow = shadows[index];
      if (shadow === undefined) continue;
      const location = { directory: join(folder, name), member: name, round, spares };
      const onStep = (step: string) => faultPoint(`store/${step}`);
      const { sha256 } = await foldShadow(shadow, location, signal, onStep).catch((error) => {
        throw UmbraError.received(toFailure(error, { member: name, where: 'fold' }), error);
      });
      onFolded(location.directory);
      folded.push({ ...member, shadow: sha256 });
    }
    return folded;
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Returns bytes of deltas ÷ bytes of the shadows they are deltas of; 0 without deltas. */
export function deltaShare(shadows: readonly SealedShadow[]): number {
  const deltas = shadows.filter(({ base }) => base !== undefined);
  const held = deltas.reduce((sum, shadow) => sum + storedBytes(shadow), 0);
  const bases = deltas.reduce((sum, { base }) => sum + (base ? storedBytes(base) : 0), 0);
  return bases === 0 ? 0 : held / bases;
}

/** Returns the bytes of a shadow's RAM, stored or not. */
export function ramBytesOf({ manifest }: SealedShadow): number {
  return manifest.blocks.reduce((sum, { bytes }) => sum + bytes, 0);
}

function storedBytes({ manifest }: SealedShadow): number {
  return manifest.blocks.reduce((sum, block) => sum + block.storedBytes, 0);
}
