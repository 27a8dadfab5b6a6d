/**
 * Files that must be on their device before anything refers to them. A name is only as durable as the
 * folder it is in: making, naming and removing end with the folder's own fsync(2).
 */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ShadowError } from './errors.ts';

/** Makes sure that what was made, named or removed in a folder is so on its device. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await handle.sync().finally(() => handle.close());
}

/** @param flag `wx`: a file of that name is an error; `w`: it is replaced, not atomically */
async function write(path: string, text: string, flag: 'wx' | 'w'): Promise<void> {
  const handle = await open(path, flag, 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What it means that a file could not be written. */
export function writeFailure(path: string, cause: unknown): ShadowError {
  const message = `cannot write ${path}: ${(cause as NodeJS.ErrnoException).code}`;
  return new ShadowError(isFull(cause) ? 'E_STORE_NO_ROOM' : 'E_STORE_IO', message, {
    path,
    cause,
  });
}

export function isFull(cause: unknown): boolean {
  const { code } = cause as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** Where there is no room for another file: the bytes at the beginning of one become others, in their place. */
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
 * Writes a new file; its folder is the caller's to sync.
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

/** The file appears under its name whole, or not at all; what was there before is replaced. */
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
