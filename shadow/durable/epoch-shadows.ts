/** Lists the shadows that an epoch is made of, and the bases that those are deltas of. */
import { join } from 'node:path';
import type { BaseName, EpochManifest } from '../manifest.ts';
import { baseOfShadow } from './persist-shadow.ts';
import type { ShadowName } from './shadow-folder.ts';

/** Lists the shadows of an epoch, in the order of its members. */
export function shadowsOf({ round, members }: EpochManifest): ShadowName[] {
  return members.map(({ name, shadow }) => ({ round, member: name, shadow }));
}

/** Adds the bases of shadows, before them; each once. A base is never a delta itself. */
export async function withBases(
  names: readonly ShadowName[],
  baseOf: (name: ShadowName) => Promise<BaseName | undefined>,
): Promise<ShadowName[]> {
  const all = new Map<string, ShadowName>();
  const own: ShadowName[] = [];
  for (const name of names) {
    const base = await baseOf(name);
    if (base !== undefined) all.set(join(base.round, name.member), { ...name, ...base });
    own.push(name);
  }
  for (const name of own) all.set(join(name.round, name.member), name);
  return [...all.values()];
}

/** Lists the rounds whose folders persisting an epoch reads: its own, and those of its bases. */
export async function roundsRead(
  epoch: EpochManifest,
  shadowsDirectory: string,
): Promise<ReadonlySet<string>> {
  const names = await withBases(shadowsOf(epoch), ({ round, member, shadow }) => {
    return baseOfShadow(join(shadowsDirectory, round, member), shadow);
  });
  return new Set(names.map(({ round }) => round));
}
