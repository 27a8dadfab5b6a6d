import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Returns the folder of built and downloaded files; it can be deleted at any time. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.UMBRA_CACHE) return environment.UMBRA_CACHE;
  if (environment.XDG_CACHE_HOME) return join(environment.XDG_CACHE_HOME, 'umbra');
  return join(homedir(), '.cache', 'umbra');
}

/**
 * Returns `folder`; fills it with `fill` if it does not exist.
 *
 * The folder appears complete or not at all: `fill` gets a scratch folder beside it, which is
 * renamed at the end. Two runs at once both do the work, and the slower one's result is deleted.
 * That needs no lock, which a killed run could leave behind.
 */
export async function cachedFolder(
  folder: string,
  fill: (scratch: string) => Promise<void>,
): Promise<string> {
  if (existsSync(folder)) return folder;
  const scratch = `${folder}.${randomBytes(6).toString('hex')}.tmp`;
  await mkdir(scratch, { recursive: true, mode: 0o700 });
  try {
    await fill(scratch);
    // Another run has made it meanwhile: one result is as good as the other.
    await rename(scratch, folder).catch((error: unknown) => {
      if (!isOccupied(error)) throw error;
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return folder;
}

function isOccupied(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOTEMPTY' || code === 'EEXIST';
}
