/**
 * Witnesses of files whose own, in their shadow's manifest, cannot agree: of a shadow that was fetched from
 * elsewhere, taken after every byte was compared with its digest, and only then; of an image whose holes
 * were taken back (reclaim-holes.ts), if it was untouched before.
 *
 *     FOLDER/witnesses.json   {"shadow": SHA-256 of shadow.json, "files": {NAME: witness, …}}
 *
 * What cannot be read counts as none: the files are then read in full.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { sha256Of } from './envelope.ts';
import { type FileStamp, fileStampSchema, takeFileStamp } from './file-stamp.ts';
import { SHADOW_FILE } from './names.ts';

const FILE = 'witnesses.json';
const schema = z.object({ shadow: z.string(), files: z.record(z.string(), fileStampSchema) });

/** @param kept what is known of other files */
export async function retakeFileStamps(
  directory: string,
  names: readonly string[],
  kept: Readonly<Record<string, FileStamp>> = {},
): Promise<void> {
  const files: Record<string, FileStamp> = { ...kept };
  for (const name of names) files[name] = takeFileStamp(join(directory, name));
  const shadow = sha256Of(await readFile(join(directory, SHADOW_FILE)));
  await writeFile(join(directory, FILE), JSON.stringify({ shadow, files }), { mode: 0o600 });
}

export async function retakenFileStamps(
  directory: string,
): Promise<Readonly<Record<string, FileStamp>>> {
  try {
    const text = await readFile(join(directory, FILE), 'utf8');
    const { shadow, files } = schema.parse(JSON.parse(text));
    return sha256Of(await readFile(join(directory, SHADOW_FILE))) === shadow ? files : {};
  } catch {
    return {};
  }
}
