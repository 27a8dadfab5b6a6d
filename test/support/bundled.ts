/** A program of a test's as one file: it begins in a third of the time, for tests that start it many times. */
import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Where packages it imports are found. */
const FOLDER = fileURLToPath(new URL('../../node_modules/.cache/umbra-tests', import.meta.url));

export interface Bundled {
  readonly path: string;
  remove(): void;
}

/** @param program path of a TypeScript file @returns what node runs as it is; the caller's to remove */
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
