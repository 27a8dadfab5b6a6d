import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';
import type { CpioEntry } from './cpio.ts';

/** Returns all files and links below `folder` as archive entries. */
export async function readTree(folder: string): Promise<CpioEntry[]> {
  const entries: CpioEntry[] = [];
  for (const found of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const full = join(found.parentPath, found.name);
    const path = relative(folder, full);
    if (found.isSymbolicLink()) {
      entries.push({ type: 'link', path, target: await readlink(full) });
    } else if (found.isFile()) {
      const executable = ((await lstat(full)).mode & 0o100) !== 0;
      entries.push({ type: 'file', path, contents: await readFile(full), executable });
    }
  }
  return entries;
}

/**
 * Checks that the image has every library that its programs and libraries need. Without this check,
 * Open MPI would silently not load a plug-in whose library is missing.
 * @throws SetupError SETUP_IMAGE_INCOMPLETE
 */
export async function checkLibraries(folder: string, entries: readonly CpioEntry[]): Promise<void> {
  const present = new Set(entries.map((entry) => basename(entry.path)));
  const programs = entries
    .filter((entry) => entry.type === 'file' && isElf(entry.contents))
    .map((entry) => join(folder, entry.path));
  const listing = await runCommand('readelf', ['-W', '-d', ...programs]);
  const missing = missingLibraries(listing, present);
  if (missing.length > 0) {
    throw new SetupError('SETUP_IMAGE_INCOMPLETE', `the image lacks ${missing.join(', ')}`);
  }
}

/** Returns the libraries that the output of `readelf -d` needs and that `present` lacks. */
export function missingLibraries(listing: string, present: ReadonlySet<string>): string[] {
  const needed = listing.matchAll(/\(NEEDED\).*\[([^\]]+)\]/g);
  const missing = new Set<string>();
  for (const [, name = ''] of needed) if (!present.has(name)) missing.add(name);
  return [...missing].sort();
}

function isElf(contents: Uint8Array): boolean {
  return contents[0] === 0x7f && contents[1] === 0x45 && contents[2] === 0x4c;
}
