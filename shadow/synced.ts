/**
 * Files that must be on their device before anything refers to them. A name is only as durable as
 * the folder it is in: to make, name or remove a file ends with fsync(2) of its folder.
 */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ShadowError } from './errors.ts';

/** Syncs a folder: files that were made, named or removed in it are so on its device afterwards. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await handle.sync().finally(() => handle.close());
}

/**
 * Writes and syncs a file.
 * @param flag `wx`: fails if there is such a file; `w`: replaces it, not atomically
 */
async function write(path: string, text: string, flag: 'wx' | 'w'): Promise<void> {
  const handle = await open(path, flag, 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Returns the error of a file that could not be written: E_STORE_NO_ROOM or E_STORE_IO. */
export function writeFailure(path: string, cause: unknown): ShadowError {
  const message = `cannot write ${path}: ${(cause as NodeJS.ErrnoException).code}`;
  return new ShadowError(isFull(cause) ? 'E_STORE_NO_ROOM' : 'E_STORE_IO', message, {
    path,
    cause,
  });
}

/** Tells whether an error of the system says that the filesystem is full. */
export function isFull(cause: unknown): boolean {
  const { code } = cause as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/**
 * Overwrites the first bytes of a file in place, for a filesystem that has no room for another
 * file.
 */
export async function overwriteSynced(path: string, text: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    await handle.write(text, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes and syncs a new file. The caller syncs its folder.
 * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO; no file is left
 */
export async function writeSynced(path: string, text: string): Promise<void> {
  try {
    await write(path, text, 'wx');
  } catch (cause) {
    await rm(path, { force: true });
    throw writeFailure(path, cause);
  }
}

/**
 * Writes a file that appears under its name whole, or not at all; it replaces one that was there.
 * @param onDraft called when the draft is written and not yet named
 */
export async function writeNamed(
  path: string,
  draft: string,
  text: string,
  onDraft: () => void,
): Promise<void> {
  await write(draft, text, 'w');
  onDraft();
  await rename(draft, path);
  await syncFolder(dirname(path));
}
