/**
 * Stamps of a sealed shadow's files that were taken after its seal, because those in its manifest
 * can no longer agree: of a shadow that was fetched from disk, after every byte was compared with
 * its digest; of an image whose holes were freed (reclaim-holes.ts), if it was untouched before.
 *
 *     FOLDER/witnesses.json   {"format": "umbra-file-stamps", "version": 2,
 *                              "shadow": SHA-256 of shadow.json, "files": {NAME: stamp, …}}
 *
 * Version 1 has neither format nor version. A file that cannot be read, or of a version that this
 * Umbra does not read, counts as absent: the shadow's files are then read in full.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { requiresSchema, sha256Of } from './envelope.ts';
import { type FileStamp, fileStampSchema, takeFileStamp } from './file-stamp.ts';
import { type FormatVersion, requireFeatures, requireVersion } from './format-version.ts';
import { SHADOW_FILE } from './names.ts';

const FILE = 'witnesses.json';
const FORMAT: FormatVersion = { name: 'umbra-file-stamps', version: 2, first: 1 };

const schema = z.object({
  version: z.number().int().default(FORMAT.first),
  requires: requiresSchema,
  shadow: z.string(),
  files: z.record(z.string(), fileStampSchema),
});

/**
 * Takes the stamps of files of a sealed shadow anew, and writes them beside its manifest.
 * @param kept stamps of other files, which stay as they are
 */
export async function retakeFileStamps(
  directory: string,
  names: readonly string[],
  kept: Readonly<Record<string, FileStamp>> = {},
): Promise<void> {
  const files: Record<string, FileStamp> = { ...kept };
  for (const name of names) files[name] = takeFileStamp(join(directory, name));
  const shadow = sha256Of(await readFile(join(directory, SHADOW_FILE)));
  const content = { format: FORMAT.name, version: FORMAT.version, shadow, files };
  await writeFile(join(directory, FILE), JSON.stringify(content), { mode: 0o600 });
}

/** Reads the stamps that were taken anew, by file name; none if there are none for this shadow. */
export async function retakenFileStamps(
  directory: string,
): Promise<Readonly<Record<string, FileStamp>>> {
  const path = join(directory, FILE);
  try {
    const parsed = schema.parse(JSON.parse(await readFile(path, 'utf8')));
    requireVersion(FORMAT, parsed.version, path);
    requireFeatures(FORMAT, parsed.requires ?? [], path);
    const isOfThis = sha256Of(await readFile(join(directory, SHADOW_FILE))) === parsed.shadow;
    return isOfThis ? parsed.files : {};
  } catch {
    return {};
  }
}
