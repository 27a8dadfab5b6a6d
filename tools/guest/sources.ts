import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** One of our own files that go into the image or are compiled for it. */
export interface SourceFile {
  /** Relative to `tools/guest/`, such as `root/init` or `src/control.c`. */
  readonly path: string;
  readonly contents: Buffer;
}

/** Found beside this module in a checkout, and from the package's root when we run from `dist/`. */
export function guestSourceFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const candidates = [here, resolve(here, '../../../tools/guest')];
  const found = candidates.find((folder) => existsSync(join(folder, 'root', 'init')));
  if (found === undefined) throw new Error(`no guest sources in ${candidates.join(' or ')}`);
  return found;
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
