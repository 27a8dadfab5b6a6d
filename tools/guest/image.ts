import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { downloadPackages, type PackageFile, resolvePackages } from '../packages/apt.ts';
import { cachedFolder, cacheFolder } from '../packages/cache.ts';
import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';
import { pvhKernel } from './kernel.ts';
import { guestRecipe, kernelFiles, newestKernelPackage } from './packages.ts';
import type { GuestRecipe } from './recipe.ts';
import { guestSources, type SourceFile } from './sources.ts';
import { checkLibraries, readTree } from './tree.ts';
import { unpackPackage } from './unpack.ts';

/** Version of this builder; raise it when the same inputs give another image. */
const BUILDER_VERSION = 3;

const COMPILER_FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-s'];

export interface GuestImage {
  /** Path of the kernel. */
  readonly kernel: string;
  /** Path of the compressed initramfs: the whole guest, which needs no disk. */
  readonly initrd: string;
  /** Digest of the inputs: our files, the builder, and the packages with their versions. */
  readonly key: string;
}

export interface GuestImageOptions {
  /** Called with one line for the operator about each step. */
  readonly progress?: (line: string) => void;
  /** Builds from the newest packages that apt knows, even if there is an image. */
  readonly refresh?: boolean;
}

/**
 * Returns the guest image; builds it if there is none for our sources. An existing image is used
 * without asking apt for newer packages, which would take a second each time; `refresh` asks.
 * @throws SetupError
 */
export async function ensureGuestImage(options: GuestImageOptions = {}): Promise<GuestImage> {
  const progress = options.progress ?? (() => {});
  const recipe = await guestRecipe();
  const sources = await guestSources(recipe.files);
  const base = join(cacheFolder(), 'guest');
  const current = currentFile(base, recipe, sources);
  const cached = options.refresh ? undefined : await cachedImage(base, current);
  if (cached !== undefined) return cached;
  const kernelName = await newestKernelPackage();
  const packages = await resolvePackages([kernelName, ...Object.keys(recipe.packages)]);
  const key = imageKey(recipeKey(recipe, sources), packages);
  await cachedFolder(join(base, key), async (scratch) => {
    const bytes = packages.reduce((sum, file) => sum + file.bytes, 0);
    progress(`guest image: ${packages.length} Debian packages, ${Math.round(bytes / 1e6)} MB`);
    const files = await downloadPackages(packages, join(cacheFolder(), 'packages'));
    progress('guest image: unpacking, compiling, packing');
    await build({ scratch, recipe, packages, files, sources, progress });
  });
  await replaceFile(current, `${key}\n`);
  return imageAt(base, key);
}

/**
 * Returns the image for our sources if it has been built; builds nothing. On a system that we have
 * no recipe for, there is none.
 */
export async function builtGuestImage(): Promise<GuestImage | undefined> {
  const base = join(cacheFolder(), 'guest');
  const recipe = await guestRecipe().catch(() => undefined);
  if (recipe === undefined) return undefined;
  return cachedImage(base, currentFile(base, recipe, await guestSources(recipe.files)));
}

/** Returns the path of the file that names the image last built from these sources. */
function currentFile(base: string, recipe: GuestRecipe, sources: readonly SourceFile[]): string {
  return join(base, `${recipeKey(recipe, sources)}.current`);
}

async function cachedImage(base: string, current: string): Promise<GuestImage | undefined> {
  if (!existsSync(current)) return undefined;
  const key = (await readFile(current, 'utf8')).trim();
  return existsSync(join(base, key)) ? imageAt(base, key) : undefined;
}

function imageAt(base: string, key: string): GuestImage {
  return { kernel: join(base, key, 'kernel-image'), initrd: join(base, key, 'initrd.zst'), key };
}

/** Returns the digest of our own inputs: builder, recipe and source files. */
function recipeKey(recipe: GuestRecipe, sources: readonly SourceFile[]): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([BUILDER_VERSION, recipe, COMPILER_FLAGS]));
  for (const { path, contents } of sources) {
    hash.update(`${path}\0${contents.length}\0`).update(contents);
  }
  return hash.digest('hex').slice(0, 16);
}

function imageKey(recipe: string, packages: readonly PackageFile[]): string {
  const hash = createHash('sha256').update(recipe);
  for (const { fileName, sha256 } of packages) hash.update(`${fileName} ${sha256}\n`);
  return hash.digest('hex').slice(0, 16);
}

interface BuildInputs {
  readonly scratch: string;
  readonly recipe: GuestRecipe;
  readonly packages: readonly PackageFile[];
  /** Paths of the packages, in their order. */
  readonly files: readonly string[];
  readonly sources: readonly SourceFile[];
  readonly progress: (line: string) => void;
}

async function build(inputs: BuildInputs): Promise<void> {
  const { scratch, recipe, packages, files, sources, progress } = inputs;
  const root = join(scratch, 'root');
  const kernel = join(scratch, 'kernel');
  const bootable = join(scratch, 'kernel-image');
  const modules = moduleNames(sources);
  await allEnded(
    packages.map(({ name }, i) => {
      const file = { path: files[i] ?? '', name };
      const patterns = recipe.packages[name];
      return patterns === undefined
        ? unpackPackage(file, kernelFiles(recipe, modules), kernel)
        : unpackPackage(file, patterns, root);
    }),
  );
  await takeKernel(kernel, bootable, join(root, 'usr/lib/umbra'), modules);
  const unpacked = pvhKernel(await readFile(bootable));
  if (unpacked.kernel !== undefined) await writeFile(bootable, unpacked.kernel);
  else progress(`guest image: each boot will be slower by a second: ${unpacked.obstacle}`);
  await compilePrograms(scratch, join(root, 'usr/bin'), sources);
  const entries = (await readTree(root)).concat(ownEntries(recipe, sources));
  await checkLibraries(root, entries);
  const archive = join(scratch, 'initrd');
  await writeFile(archive, cpioArchive(entries));
  // LZ4 would be unpacked in half the time, but is larger: guests of 128 MiB have no room for both.
  await runCommand('zstd', ['-q', '-T1', '-9', '--rm', archive]);
  const manifest = packages.map((file) => `${file.sha256}  ${file.fileName}\n`).join('');
  await writeFile(join(scratch, 'packages.txt'), manifest);
  await rm(root, { recursive: true });
  await rm(kernel, { recursive: true });
}

/**
 * Resolves when all have succeeded; rejects with the first failure only when all have ended. What
 * still runs would write into a folder that is being removed.
 */
async function allEnded(work: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
}

function moduleNames(sources: readonly SourceFile[]): string[] {
  const list = sources.find(({ path }) => path === 'root/usr/lib/umbra/modules');
  return list?.contents.toString().trim().split('\n') ?? [];
}

/** Splits the kernel package: the kernel goes beside the initramfs, the modules into it. */
async function takeKernel(
  unpacked: string,
  kernel: string,
  moduleFolder: string,
  modules: readonly string[],
): Promise<void> {
  await mkdir(moduleFolder, { recursive: true });
  for (const found of await readdir(unpacked, { recursive: true, withFileTypes: true })) {
    if (!found.isFile()) continue;
    const isKernel = found.name.startsWith('vmlinuz-');
    await rename(
      join(found.parentPath, found.name),
      isKernel ? kernel : join(moduleFolder, found.name),
    );
  }
  await chmod(kernel, 0o644);
  const packed = (await readdir(moduleFolder)).filter((name) => name.endsWith('.xz'));
  for (const name of packed) await runCommand('xz', ['-d', join(moduleFolder, name)]);
  const have = await readdir(moduleFolder);
  const missing = modules.filter((name) => !have.includes(`${name}.ko`));
  if (missing.length > 0 || !existsSync(kernel)) {
    throw new SetupError('SETUP_IMAGE_INCOMPLETE', `kernel package lacks ${missing.join(', ')}`);
  }
}

/** Compiles each C source to a static program of the same name. */
async function compilePrograms(
  scratch: string,
  target: string,
  sources: readonly SourceFile[],
): Promise<void> {
  const folder = join(scratch, 'src');
  await mkdir(folder);
  for (const { path, contents } of sources) {
    if (path.startsWith('src/')) await writeFile(join(folder, basename(path)), contents);
  }
  const programs = (await readdir(folder)).filter((name) => name.endsWith('.c'));
  await allEnded(
    programs.map((name) =>
      runCommand('gcc', [...COMPILER_FLAGS, '-o', join(target, name.slice(0, -2)), name], {
        cwd: folder,
      }),
    ),
  );
  await rm(folder, { recursive: true });
}

/**
 * Returns our files, the links, and the console that the kernel opens before it mounts anything.
 */
function ownEntries(recipe: GuestRecipe, sources: readonly SourceFile[]): CpioEntry[] {
  const entries: CpioEntry[] = [{ type: 'device', path: 'dev/console', major: 5, minor: 1 }];
  for (const { path, contents } of sources) {
    if (!path.startsWith('root/')) continue;
    const executable = contents.subarray(0, 2).toString() === '#!';
    entries.push({ type: 'file', path: path.slice('root/'.length), contents, executable });
  }
  for (const [path, target] of Object.entries(recipe.links)) {
    entries.push({ type: 'link', path, target });
  }
  return entries;
}

async function replaceFile(path: string, text: string): Promise<void> {
  const scratch = join(dirname(path), `.${basename(path)}.${process.pid}`);
  await writeFile(scratch, text);
  await rename(scratch, path);
}
