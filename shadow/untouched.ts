/**
 * Tells whether files of a sealed shadow are as they were sealed, from what stat(2) says of them.
 * Nothing is read: file-stamp.ts says why that suffices.
 */
import { join } from 'node:path';
import { type FileStamp, fileStampsAgree, takeFileStamp } from './file-stamp.ts';
import { retakenFileStamps } from './retaken-stamps.ts';
import { chainOf, type OneShadow, type SealedShadow, shadowFiles } from './sealed-shadow.ts';

/**
 * Tells whether all files of a shadow and of its base are as they were sealed. Costs one stat(2) a
 * file.
 */
export async function isUntouched(shadow: SealedShadow): Promise<boolean> {
  for (const one of chainOf(shadow)) if (!(await isUntouchedAlone(one))) return false;
  return true;
}

/** Tells the same of a shadow's own files. */
export async function isUntouchedAlone({ directory, manifest }: OneShadow): Promise<boolean> {
  for (const one of shadowFiles(manifest)) {
    if (!(await fileIsUntouched(directory, one))) return false;
  }
  return true;
}

/**
 * Tells whether a file is as it was sealed, or as a later verification found it whole. Costs a
 * stat(2), and reads the later stamps if they are needed.
 */
export async function fileIsUntouched(
  directory: string,
  { file, witness }: { readonly file: string; readonly witness: FileStamp },
): Promise<boolean> {
  try {
    const now = takeFileStamp(join(directory, file));
    if (fileStampsAgree(now, witness)) return true;
    const retaken = (await retakenFileStamps(directory))[file];
    return retaken !== undefined && fileStampsAgree(now, retaken);
  } catch {
    return false; // the full verification will name what is wrong
  }
}
