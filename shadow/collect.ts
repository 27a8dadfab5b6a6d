/**
 * Removes round folders that no epoch needs any more: a retired epoch, an aborted round or a crash
 * left them.
 *
 *     epochs ──▶ rounds they name ──▶ rounds of the chains of bases  needed
 *     other rounds, unless the caller keeps them                     removed, or recycled
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Catalogue } from './catalogue.ts';
import { ShadowError } from './errors.ts';
import { isRoundName } from './names.ts';
import { type BaseRounds, readBases } from './sealed-shadow.ts';
import { recycleShadows } from './spares.ts';
import { IGNORE_STEPS, type OnStep } from './steps.ts';

export interface CollectOptions {
  /**
   * Tells whether a round is still written, or otherwise in use. Asked again before each removal.
   */
  readonly keep?: (round: string) => boolean;
  /** Called for each leftover that stays because it is kept. */
  readonly onKept?: (round: string) => void;
  /** Called for an epoch that does not say what it needs: nothing is removed while there is one. */
  readonly onBlocked?: (epoch: number, error: ShadowError) => void;
  /** Keep images for the next round, as spares. */
  readonly recycle?: boolean;
  readonly onStep?: OnStep;
  /** Remembers what shadows are stored against, from one call to the next. */
  readonly bases?: BaseRounds;
}

/**
 * Removes the folders of rounds that no epoch needs. An epoch needs its own round, and the rounds
 * its shadows are deltas of. Nothing is removed while a manifest cannot be read, because it might
 * name any round.
 *
 * A round may be staged and published at the same time, provided the caller keeps it from before
 * its folder is made until after it is published: this function reads folders first, then what is
 * kept, then what epochs name.
 * @returns the rounds removed
 */
export async function collectLeftovers(
  shadowsDirectory: string,
  catalogue: Catalogue,
  options: CollectOptions = {},
): Promise<string[]> {
  const { keep = () => false, onKept = () => {}, recycle = false, onStep = IGNORE_STEPS } = options;
  const { onBlocked = () => {} } = options;
  const entries = await readdir(shadowsDirectory, { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const rounds = folders.filter((name) => isRoundName(name)); // Umbra made no others
  const kept = new Set(rounds.filter(keep));
  const needed = await neededRounds(shadowsDirectory, catalogue, onBlocked, options.bases);
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

/** Finds the rounds that epochs need; undefined if the manifest of one cannot be read. */
async function neededRounds(
  shadowsDirectory: string,
  catalogue: Catalogue,
  onBlocked: NonNullable<CollectOptions['onBlocked']>,
  bases: BaseRounds | undefined,
): Promise<ReadonlySet<string> | undefined> {
  const { epochs, damaged } = await catalogue.list();
  for (const { epoch, error } of damaged) onBlocked(epoch, error);
  if (damaged.length > 0) return undefined;
  const needed = new Set<string>();
  const seen = new Set<string>();
  for (const { epoch, round, members } of epochs) {
    needed.add(round);
    for (const { name } of members) {
      try {
        for (const base of readBases(shadowsDirectory, round, name, bases)) {
          // What that one is stored against was walked through already.
          const link = join(base, name);
          if (seen.has(link)) break;
          seen.add(link);
          needed.add(base);
        }
      } catch (error) {
        if (!(error instanceof ShadowError)) throw error;
        onBlocked(epoch, error);
        return undefined;
      }
    }
  }
  return needed;
}
