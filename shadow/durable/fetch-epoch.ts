/**
 * Brings an epoch from disk into a store, bases first:
 *
 *     SHADOWS/STAGING/MEMBER   being fetched; no epoch names it: after a crash it is collected
 *     SHADOWS/ROUND/MEMBER     moved there when every byte has been checked
 *
 * A shadow that is in the store already, and whole, stays: several epochs may share a base.
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ShadowError } from '../errors.ts';
import type { EpochManifest } from '../manifest.ts';
import { requireRoom } from '../room.ts';
import { openShadow } from '../sealed-shadow.ts';
import { type VerifyMode, verifyShadow } from '../verify.ts';
import type { DurableStore, PersistProgress } from './durable-store.ts';
import type { ShadowName } from './shadow-folder.ts';

export interface FetchOptions {
  readonly shadowsDirectory: string;
  /** Folder to fetch into, named like a round's. */
  readonly staging: string;
  /** Extent to which shadows that are in the store already are verified. */
  readonly trust: VerifyMode;
  /** Memory that must stay free, bytes. */
  readonly headroomBytes: number;
  /** Called before anything is written. @throws to forbid it */
  readonly admit?: (neededBytes: number) => Promise<void>;
  readonly onProgress: (progress: PersistProgress) => void;
}

/**
 * Fetches the shadows of an epoch that the store does not have whole.
 * @returns bytes fetched
 * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO, E_DURABLE_IO, E_EPOCH_CORRUPT,
 * E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_MANIFEST_FEATURE; whole shadows may be left that no
 * epoch names
 */
export async function fetchEpoch(
  store: DurableStore,
  epoch: EpochManifest,
  options: FetchOptions,
): Promise<number> {
  const { shadowsDirectory, staging, trust, headroomBytes, onProgress } = options;
  const missing: ShadowName[] = [];
  for (const name of await store.shadows(epoch)) {
    const there = await isWhole(join(shadowsDirectory, name.round, name.member), name, trust);
    if (!there) missing.push(name);
  }
  const totalBytes = await store.contentBytes(missing);
  requireRoom(shadowsDirectory, totalBytes, headroomBytes);
  await options.admit?.(totalBytes);
  let doneBytes = 0;
  const onContent = (bytes: number) => {
    doneBytes += bytes;
    onProgress({ doneBytes, totalBytes });
  };
  try {
    for (const name of missing) {
      const staged = join(shadowsDirectory, staging, name.member);
      const target = join(shadowsDirectory, name.round, name.member);
      await store.fetch(name, staged, onContent);
      await mkdir(dirname(target), { recursive: true, mode: 0o700 });
      await rm(target, { recursive: true, force: true }); // damaged, or incomplete
      await rename(staged, target);
    }
  } finally {
    await rm(join(shadowsDirectory, staging), { recursive: true, force: true });
  }
  return doneBytes;
}

async function isWhole(directory: string, name: ShadowName, trust: VerifyMode): Promise<boolean> {
  try {
    await verifyShadow(await openShadow(directory, name.shadow), trust);
    return true;
  } catch (error) {
    if (error instanceof ShadowError) return false;
    throw error;
  }
}
