import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { packageFolder } from '../../proxy/host/program.ts';

/** One of our own files that go into the image or are compiled for it. */
export interface SourceFile {
  /** Relative to `tools/guest/`, such as `root/init` or `src/control.c`. */
  readonly path: string;
  readonly contents: Buffer;
}

/** Of the checkout, or of the package when we run from `dist/`. */
export function guestSourceFolder(): string {
  return join(packageFolder(), 'tools/guest');
}

/** All of `src/` and `root/`, sorted by path. */
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
