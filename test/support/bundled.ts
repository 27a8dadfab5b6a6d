/**
 * A program of a test, bundled into one file. Such a file starts in a third of the time, which
 * counts for tests that start it many times.
 */
import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Folder of the bundles: below the repository, so that packages they import are found. */
const FOLDER = fileURLToPath(new URL('../../node_modules/.cache/umbra-tests', import.meta.url));

export interface Bundled {
  readonly path: string;
  remove(): void;
}

/**
 * Bundles a program into a file that node runs as it is.
 * @param program path of a TypeScript file
 * @returns the bundle; the caller removes it
 */
export async function bundled(program: string): Promise<Bundled> {
  const path = join(FOLDER, `${basename(program, '.ts')}-${process.pid}.mjs`);
  await build({
    entryPoints: [program],
    outfile: path,
    bundle: true,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    target: 'node20',
    logLevel: 'warning',
  });
  return { path, remove: () => rmSync(path, { force: true }) };
}
