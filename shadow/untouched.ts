/**
 * Tells whether a sealed shadow's files are as they were sealed, from what stat(2) says of them. Nothing
 * is read: file-stamp.ts says why that suffices.
 */
import { join } from 'node:path';
import { type FileStamp, fileStampsAgree, takeFileStamp } from './file-stamp.ts';
import { retakenFileStamps } from './retaken-stamps.ts';
import { type SealedShadow, shadowFiles } from './sealed-shadow.ts';

/**
 * Were any of its files, or its base's, touched since they were sealed? Costs a stat(2) each.
 */
export async function isUntouched(shadow: SealedShadow): Promise<boolean> {
  for (const one of shadowFiles(shadow.manifest)) {
    if (!(await fileIsUntouched(shadow.directory, one))) return false;
  }
  return shadow.base === undefined || isUntouched(shadow.base);
}

/** Is this file as it was sealed, or as it was found whole since? Costs a stat(2) or two. */
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
    return false; // let the full check name what is wrong
  }
}
