/**
 * What a round will stage on this host, member by member.
 *
 *     no base, or one that was touched     all of its RAM
 *     a base                               what the last delta took and some more; beyond that, a
 *                                          share of what the budget and the host have left
 */
import { join } from 'node:path';
import {
  type Catalogue,
  isUntouched,
  openShadow,
  type SealedShadow,
} from '../../../shadow/index.ts';

/** Room for a delta that nobody has seen the like of: an eighth of RAM. */
const FIRST_SHARE = 8;
/** The next delta may be larger than the last. */
const GROWTH = 1.25;
const GROWTH_BYTES = 16 * 2 ** 20;

export interface StagingPlan {
  readonly member: string;
  /** Of all its RAM blocks. */
  readonly ramBytes: number;
  /** There must be room for them before the round begins. */
  readonly admittedBytes: number;
  /** The shadow whose pages need not be stored again; none: all of them are. */
  readonly base: { readonly directory: string; readonly sha256: string } | undefined;
}

/** The newest epoch's shadow of a member, or what that is a delta of. */
export async function planStaging(
  member: string,
  ramBytes: number,
  newest: SealedShadow | undefined,
): Promise<StagingPlan> {
  const base = newest?.base ?? newest;
  const whole = { member, ramBytes, admittedBytes: ramBytes, base: undefined };
  if (newest === undefined || base === undefined) return whole;
  const stored = newest.manifest.blocks.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  const expected =
    newest.base === undefined ? ramBytes / FIRST_SHARE : stored * GROWTH + GROWTH_BYTES;
  if (!(await isUntouched(base))) return whole; // never stored against what may have rotted
  const { directory, sha256 } = base;
  const admittedBytes = Math.min(ramBytes, Math.ceil(expected));
  return { member, ramBytes, admittedBytes, base: { directory, sha256 } };
}

/** The newest epoch's shadows, by member; none where they cannot be read. */
export async function newestShadows(
  catalogue: Catalogue,
  shadowsDirectory: string,
): Promise<ReadonlyMap<string, SealedShadow>> {
  const shadows = new Map<string, SealedShadow>();
  const newest = (await catalogue.list()).epochs.at(-1);
  for (const { name, shadow } of newest?.members ?? []) {
    const directory = join(shadowsDirectory, newest?.round ?? '', name);
    // What is wrong with it is told when it is verified or restored; here it is just no base.
    const opened = await openShadow(directory, shadow).catch(() => undefined);
    if (opened !== undefined) shadows.set(name, opened);
  }
  return shadows;
}

/** Splits what is free among those that may need it, by their RAM. */
export function shareOf(plan: StagingPlan, all: readonly StagingPlan[], freeBytes: number): number {
  if (plan.base === undefined) return 0;
  const growing = all.filter(({ base }) => base !== undefined);
  const total = growing.reduce((sum, { ramBytes }) => sum + ramBytes, 0);
  const most = plan.ramBytes - plan.admittedBytes;
  return Math.min(most, Math.floor((Math.max(0, freeBytes) * plan.ramBytes) / total));
}
