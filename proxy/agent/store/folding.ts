/** Folds an epoch: writes the shadows of all its members anew, as full ones (shadow/fold.ts). */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  chainOf,
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

/** The most links of a chain before it is folded: a restore reads them all. */
const LINKS_MAX = 64;

/**
 * Returns how much an epoch's shadows are worth folding: bytes that only its deltas need ÷ bytes of
 * the full shadows they go back to; 0 without deltas, infinite for a chain that is too long.
 *
 *     delta   its own bytes: every later delta stores them again
 *     link    those of links that no kept epoch names: they are kept for its sake alone
 *
 * @param kept rounds that epochs name
 */
export function deltaShare(shadows: readonly SealedShadow[], kept: ReadonlySet<string>): number {
  let [held, roots] = [0, 0];
  for (const shadow of shadows) {
    const links = chainOf(shadow);
    const root = links.pop();
    if (root === undefined || links.length === 0) continue;
    if (links.length > LINKS_MAX) return Number.POSITIVE_INFINITY;
    roots += storedBytes(root);
    const alone =
      links.length === 1 ? links : links.filter(({ manifest }) => !kept.has(manifest.round));
    held += alone.reduce((sum, link) => sum + storedBytes(link), 0);
  }
  return roots === 0 ? 0 : held / roots;
}

/** Returns the bytes of a shadow's RAM, stored or not. */
export function ramBytesOf({ manifest }: SealedShadow): number {
  return manifest.blocks.reduce((sum, { bytes }) => sum + bytes, 0);
}

function storedBytes({ manifest }: SealedShadow): number {
  return manifest.blocks.reduce((sum, block) => sum + block.storedBytes, 0);
}
