import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { packageFolder } from '../../proxy/host/program.ts';

/** A source file of ours that goes into the image or is compiled for it. */
export interface SourceFile {
  /** Relative to `tools/guest/`, such as `root/init` or `src/control.c`. */
  readonly path: string;
  readonly contents: Buffer;
}

/** Returns `tools/guest` of the clone, or of the npm package when run from `dist/`. */
export function guestSourceFolder(): string {
  return join(packageFolder(), 'tools/guest');
}

/** Returns all files of `src/` and `root/`, sorted by path. */
export async function guestSources(): Promise<SourceFile[]> {
  const base = guestSourceFolder();
  const files: SourceFile[] = [];
  for (const top of ['src', 'root']) {
    const entries = await readdir(join(base, top), { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      files.push({ path: relative(base, path), contents: await readFile(path) });
    }
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}
