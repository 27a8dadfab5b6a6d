/** Folders of the targets. They last as long as the process, or until `removeFolders`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { scratchFolder } from '../support/scratch.ts';

const folders: string[] = [];

/** Makes an empty folder for a target. @param name of the target */
export function makeFolder(name: string): string {
  const folder = mkdtempSync(join(scratchFolder(), `umbra-fuzz-${name}-`));
  if (folders.length === 0) process.once('exit', removeFolders);
  folders.push(folder);
  return folder;
}

/** Removes the folders of all targets, which can be used no more. */
export function removeFolders(): void {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}
