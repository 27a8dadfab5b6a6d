/**
 * A program as one file, for tests that start it many times: it starts in a tenth of the time that
 * its source takes.
 */
import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Folder of the bundles: below the repository, so that packages they import are found. */
const FOLDER = fileURLToPath(new URL('../../node_modules/.cache/umbra-tests', import.meta.url));

/** Packages with machine code, and uvu, of which tests and their runner share one copy. */
const EXTERNAL = ['koffi', 'lz4-napi', 'esbuild', 'uvu'];
/** What packages in CommonJS expect to find, in a file that is a module. */
const COMMON_JS = [
  "import { createRequire as $createRequire } from 'node:module';",
  'const require = $createRequire(import.meta.url);',
].join(' ');

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
    external: EXTERNAL,
    banner: { js: COMMON_JS },
    format: 'esm',
    platform: 'node',
    target: 'node20',
    logLevel: 'warning',
  });
  return { path, remove: () => rmSync(path, { force: true }) };
}

/**
 * Makes the children that this process forks plain Node processes, without the loader of
 * TypeScript that they would inherit.
 * @returns what undoes it
 */
export function forkPlain(): () => void {
  const words = process.execArgv.splice(0);
  return () => void process.execArgv.push(...words);
}
