/** Finds Umbra's programs and files, whether it runs from source or as built (dist). */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Returns the folder of the package: the nearest above this file that has a package.json.
 * @throws Error if there is none
 */
export function packageFolder(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
    if (folder === dirname(folder)) throw new Error(`no package.json above ${import.meta.url}`);
  }
}

/**
 * Returns the file to start one of Umbra's programs with: source if this process runs from source,
 * else built.
 * @param name path of its source in the package, without extension. tools/setup/build.mjs lists the
 * programs that are built
 */
export function programPath(name: string): string {
  const isSource = import.meta.url.endsWith('.ts');
  return join(packageFolder(), isSource ? `${name}.ts` : `dist/${name}.js`);
}
