/** What of a folder others could get at: everything of ours is its owner's alone. */
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

export interface TreeCount {
  readonly folders: number;
  readonly files: number;
  readonly sockets: number;
  /** PATH MODE of what is open, or not ours. */
  readonly open: readonly string[];
}

/** @param madeByOthers names of what QEMU makes, by its umask: their folder keeps others out */
export function lookAtTree(root: string, madeByOthers = /^$/): TreeCount {
  const count = { folders: 0, files: 0, sockets: 0 };
  const open: string[] = [];
  const visit = (path: string, name: string): void => {
    const stats = lstatSync(path);
    const mode = stats.mode & 0o777;
    if (stats.isDirectory()) count.folders++;
    else if (stats.isSocket()) count.sockets++;
    else count.files++;
    const isClosed = stats.isDirectory() ? mode === 0o700 : mode === 0o600 || mode === 0o400;
    const isOthers = !stats.isDirectory() && madeByOthers.test(name);
    const isOurs = stats.uid === process.geteuid?.() && !stats.isSymbolicLink();
    if (!isOurs || !(isClosed || isOthers)) open.push(`${path} ${mode.toString(8)}`);
    if (stats.isDirectory()) for (const one of readdirSync(path)) visit(join(path, one), one);
  };
  visit(root, '');
  return { ...count, open };
}
