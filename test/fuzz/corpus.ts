/** Inputs in files, `corpus/TARGET/NAME`: valid ones, and every one that once broke a promise. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const CORPUS = fileURLToPath(new URL('corpus/', import.meta.url));
/** Folder of findings. It is not in the repository: they are examined first. */
const FAILURES = fileURLToPath(new URL('failures/', import.meta.url));

export interface Seed {
  readonly name: string;
  readonly input: Buffer;
}

/** Lists a target's seeds in the order of their names, whatever the file system's order. */
export function seedsOf(target: string): Seed[] {
  const folder = join(CORPUS, target);
  return readdirSync(folder)
    .sort()
    .map((name) => ({ name, input: readFileSync(join(folder, name)) }));
}

export function addSeed(target: string, name: string, input: Uint8Array | string): void {
  mkdirSync(join(CORPUS, target), { recursive: true });
  writeFileSync(join(CORPUS, target, name), input);
}

/** Saves an input that broke a promise. @returns the file's path, from the working directory */
export function saveFailure(target: string, input: Buffer): string {
  mkdirSync(FAILURES, { recursive: true });
  const digest = createHash('sha256').update(input).digest('hex').slice(0, 12);
  const path = join(FAILURES, `${target}-${digest}`);
  writeFileSync(path, input);
  return relative('.', path);
}
