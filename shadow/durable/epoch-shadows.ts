/** Lists the shadows that an epoch is made of, and the bases that those are deltas of. */
import { join } from 'node:path';
import type { BaseName, EpochManifest } from '../manifest.ts';
import { baseOfShadow } from './persist-shadow.ts';
import type { ShadowName } from './shadow-folder.ts';

/** Lists the shadows of an epoch, in the order of its members. */
export function shadowsOf({ round, members }: EpochManifest): ShadowName[] {
  return members.map(({ name, shadow }) => ({ round, member: name, shadow }));
}

/** Adds the bases of shadows, and those of bases, each before what is stored against it, once. */
export async function withBases(
  names: readonly ShadowName[],
  baseOf: (name: ShadowName) => Promise<BaseName | undefined>,
): Promise<ShadowName[]> {
  const all = new Map<string, ShadowName>();
  for (const name of names) {
    const chain: ShadowName[] = [];
    for (let at = name; ; ) {
      const base = await baseOf(at);
      if (base === undefined || all.has(join(base.round, at.member))) break;
      at = { ...at, ...base };
      chain.unshift(at);
    }
    for (const one of chain) all.set(keyOf(one), one);
  }
  for (const name of names) all.set(keyOf(name), name);
  return [...all.values()];
}

function keyOf({ round, member }: ShadowName): string {
  return join(round, member);
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
