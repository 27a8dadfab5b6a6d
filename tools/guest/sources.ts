import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { packageFolder } from '../../proxy/host/program.ts';

/** A source file of ours that goes into the image or is compiled for it. */
export interface SourceFile {
  /** Such as `root/init` or `src/control.c`; files of a release are in `root/` as well. */
  readonly path: string;
  readonly contents: Buffer;
}

/** Returns `tools/guest` of the clone, or of the npm package when run from `dist/`. */
export function guestSourceFolder(): string {
  return join(packageFolder(), 'tools/guest');
}

/**
 * Returns all files of `src/`, `root/` and of the release's own folder, sorted by path.
 * @param files name of the release's folder
 */
export async function guestSources(files: string): Promise<SourceFile[]> {
  const base = guestSourceFolder();
  const found: SourceFile[] = [];
  for (const [top, shownAs] of [
    ['src', 'src'],
    ['root', 'root'],
    [files, 'root'],
  ] as const) {
    const entries = await readdir(join(base, top), { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const contents = await readFile(path);
      found.push({ path: join(shownAs, relative(join(base, top), path)), contents });
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}
