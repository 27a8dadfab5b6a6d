/** Where our programs and files are, whether we run from source or from what is built of it (dist). */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The folder of the package: the nearest above this file that has a package.json.
 * @throws Error if there is none
 */
export function packageFolder(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
    if (folder === dirname(folder)) throw new Error(`no package.json above ${import.meta.url}`);
  }
}

/**
 * The file to start a program of ours with, source or built like ourselves.
 * @param name its source, from the package's folder, without extension; what is built: tools/setup/build.mjs
 */
export function programPath(name: string): string {
  const isSource = import.meta.url.endsWith('.ts');
  return join(packageFolder(), isSource ? `${name}.ts` : `dist/${name}.js`);
}
