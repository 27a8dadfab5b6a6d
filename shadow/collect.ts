/**
 * Removes what no epoch needs any more: folders that a retired epoch, an aborted round or a crash left.
 *
 *     epochs ──▶ rounds they name ──▶ rounds those are deltas of        needed
 *     the other rounds' folders, unless the caller keeps them           removed, or recycled
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Catalogue } from './catalogue.ts';
import { ShadowError } from './errors.ts';
import { isRoundName } from './names.ts';
import { readBaseName } from './sealed-shadow.ts';
import { recycleShadows } from './spares.ts';
import { NOBODY_TOLD, type OnStep } from './steps.ts';

export interface CollectOptions {
  readonly keep?: (round: string) => boolean;
  /** Told of leftovers that stay because they are kept. */
  readonly onKept?: (round: string) => void;
  /** Told of an epoch that does not say what it needs: nothing is removed while there is one. */
  readonly onBlocked?: (epoch: number, error: ShadowError) => void;
  readonly recycle?: boolean;
  readonly onStep?: OnStep;
}

/**
 * Removes the folders of rounds that no epoch needs: what a retired epoch, an aborted round or a crash
 * left. An epoch needs its own round's, and those its shadows are deltas of. Nothing is removed while a
 * manifest cannot be read, for it might name any of them.
 *
 * A round may be staged and published meanwhile, if it is kept from before its folder is made until after
 * it is published: then what is there, what is kept and what is named are looked at in that order.
 * @param keep what is still being written, and whatever else is in use; asked again before each removal
 * @param recycle keep images for the next round, as spares
 * @returns the rounds removed
 */
export async function collectLeftovers(
  shadowsDirectory: string,
  catalogue: Catalogue,
  options: CollectOptions = {},
): Promise<string[]> {
  const { keep = () => false, onKept = () => {}, recycle = false, onStep = NOBODY_TOLD } = options;
  const { onBlocked = () => {} } = options;
  const entries = await readdir(shadowsDirectory, { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const rounds = folders.filter((name) => isRoundName(name)); // others are not ours
  const kept = new Set(rounds.filter(keep));
  const needed = await neededRounds(shadowsDirectory, catalogue, onBlocked);
  if (needed === undefined) return [];
  const removed: string[] = [];
  for (const round of rounds) {
    if (needed.has(round)) continue;
    if (kept.has(round) || keep(round)) {
      onKept(round);
      continue;
    }
    if (recycle) await recycleShadows(shadowsDirectory, round);
    else await rm(join(shadowsDirectory, round), { recursive: true, force: true });
    onStep('collect/removed');
    removed.push(round);
  }
  return removed;
}

/** Rounds whose folders epochs are made of; undefined if some cannot tell. */
async function neededRounds(
  shadowsDirectory: string,
  catalogue: Catalogue,
  onBlocked: NonNullable<CollectOptions['onBlocked']>,
): Promise<ReadonlySet<string> | undefined> {
  const { epochs, damaged } = await catalogue.list();
  for (const { epoch, error } of damaged) onBlocked(epoch, error);
  if (damaged.length > 0) return undefined;
  const needed = new Set<string>();
  for (const { epoch, round, members } of epochs) {
    needed.add(round);
    for (const { name } of members) {
      try {
        const base = await readBaseName(join(shadowsDirectory, round, name));
        if (base !== undefined) needed.add(base.round);
      } catch (error) {
        if (!(error instanceof ShadowError)) throw error;
        onBlocked(epoch, error);
        return undefined;
      }
    }
  }
  return needed;
}
