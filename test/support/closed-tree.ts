/**
 * Search for files of a folder that other users could open: Umbra's files are its owner's alone.
 */
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

export interface TreeCount {
  readonly folders: number;
  readonly files: number;
  readonly sockets: number;
  /** PATH MODE of what is open, or not ours. */
  readonly open: readonly string[];
}

export function lookAtTree(root: string): TreeCount {
  const count = { folders: 0, files: 0, sockets: 0 };
  const open: string[] = [];
  const visit = (path: string): void => {
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats === undefined) return; // removed meanwhile: no user can open it
    const mode = stats.mode & 0o777;
    if (stats.isDirectory()) count.folders++;
    else if (stats.isSocket()) count.sockets++;
    else count.files++;
    const isClosed = (mode & 0o077) === 0;
    const isOurs = stats.uid === process.geteuid?.() && !stats.isSymbolicLink();
    if (!isOurs || !isClosed) open.push(`${path} ${mode.toString(8)}`);
    if (stats.isDirectory()) for (const one of readdirSync(path)) visit(join(path, one));
  };
  visit(root);
  return { ...count, open };
}
