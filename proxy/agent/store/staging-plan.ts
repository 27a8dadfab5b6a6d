/**
 * The memory that a round will stage on this host, member by member.
 *
 *     no base, or one that was touched     all of its RAM
 *     a base                               what the last delta took and some more; beyond that, a
 *                                          share of what the budget and the host have left
 */
import { join } from 'node:path';
import {
  type Catalogue,
  chainOf,
  cutOf,
  isUntouched,
  isUntouchedAlone,
  openShadow,
  rootOf,
  type SealedShadow,
} from '../../../shadow/index.ts';

/** The first delta of a member is expected to take an eighth of its RAM. */
const FIRST_SHARE = 8;
/** The next delta may be larger than the last. */
const GROWTH = 1.25;
const GROWTH_BYTES = 16 * 2 ** 20;

/** The plan of one member. */
export interface StagingPlan {
  readonly member: string;
  /** Bytes of all its RAM blocks. */
  readonly ramBytes: number;
  /** Bytes for which there must be room before the round begins. */
  readonly admittedBytes: number;
  /** The shadow whose pages need not be stored again; undefined: all pages are stored. */
  readonly base: { readonly directory: string; readonly sha256: string } | undefined;
  /** Shadow of the newest epoch, and the round of that cut: the base of a link. */
  readonly parent:
    | { readonly directory: string; readonly sha256: string; readonly cut: string }
    | undefined;
}

/**
 * Plans what a member will stage.
 * @param newest its shadow in the newest epoch: the root of its chain is the base of a delta
 */
export async function planStaging(
  member: string,
  ramBytes: number,
  newest: SealedShadow | undefined,
): Promise<StagingPlan> {
  const base = newest && rootOf(newest);
  const whole = {
    member,
    ramBytes,
    admittedBytes: ramBytes,
    base: undefined,
    parent: undefined,
  };
  if (newest === undefined || base === undefined) return whole;
  const stored = newest.manifest.blocks.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  const expected =
    newest.base === undefined ? ramBytes / FIRST_SHARE : stored * GROWTH + GROWTH_BYTES;
  if (!(await isUntouched(base))) return whole; // no delta of a shadow that may be damaged
  const { directory, sha256 } = base;
  const admittedBytes = Math.min(ramBytes, Math.ceil(expected));
  // What it is stored against was looked at when it was the newest.
  const parent = (await isUntouchedAlone(newest))
    ? { directory: newest.directory, sha256: newest.sha256, cut: cutOf(newest.manifest) }
    : undefined;
  return { member, ramBytes, admittedBytes, base: { directory, sha256 }, parent };
}

/**
 * Returns the newest epoch's shadows, by member; those that cannot be read are left out.
 * @param known shadows that were opened before, by digest; those of their chains are added
 */
export async function newestShadows(
  catalogue: Catalogue,
  shadowsDirectory: string,
  known: Map<string, SealedShadow> = new Map(),
): Promise<ReadonlyMap<string, SealedShadow>> {
  const shadows = new Map<string, SealedShadow>();
  const newest = (await catalogue.list()).epochs.at(-1);
  for (const { name, shadow } of newest?.members ?? []) {
    const directory = join(shadowsDirectory, newest?.round ?? '', name);
    // An error in it is reported when the epoch is verified or restored; here it is just no base.
    const opened = await openShadow(directory, shadow, known).catch(() => undefined);
    if (opened !== undefined) shadows.set(name, opened);
  }
  known.clear();
  for (const shadow of [...shadows.values()].flatMap(chainOf)) known.set(shadow.sha256, shadow);
  return shadows;
}

/**
 * Returns a member's share of the free bytes, which are split among deltas in proportion to RAM.
 */
export function shareOf(plan: StagingPlan, all: readonly StagingPlan[], freeBytes: number): number {
  if (plan.base === undefined) return 0;
  const growing = all.filter(({ base }) => base !== undefined);
  const total = growing.reduce((sum, { ramBytes }) => sum + ramBytes, 0);
  const most = plan.ramBytes - plan.admittedBytes;
  return Math.min(most, Math.floor((Math.max(0, freeBytes) * plan.ramBytes) / total));
}
