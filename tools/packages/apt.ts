import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from './command.ts';
import { SetupError } from './errors.ts';
import type { DebianRelease } from './release.ts';

/** A package that apt would download now. */
export interface PackageFile {
  readonly name: string;
  readonly fileName: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Option that keeps apt from downloading as user _apt, which may not write to our folder. */
const KEEP_USER = ['-o', `APT::Sandbox::User=${process.getuid?.() === 0 ? 'root' : ''}`];

/**
 * Fetches the system's package lists anew, as root.
 * @throws SetupError SETUP_PACKAGES_MISSING with the command to run, if we are not root.
 */
export async function updateAptLists(): Promise<void> {
  if (process.getuid?.() !== 0) {
    const message = 'the package lists are missing or old. Run:\n\n  sudo apt-get update\n';
    throw new SetupError('SETUP_PACKAGES_MISSING', message);
  }
  await runCommand('apt-get', ['-q', 'update']);
}

/**
 * Returns the mirror that the system gets its release from. Other suites are there as well.
 * @throws SetupError SETUP_PACKAGE_UNKNOWN
 */
export async function mirrorOf({ version, codename }: DebianRelease): Promise<string> {
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)';
  const targets = await runCommand('apt-get', ['indextargets', '--format', format]);
  const mirror = targets
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, release, component]) => release === codename && component === 'main')?.[0];
  if (mirror !== undefined) return mirror;
  const message = `the system does not get its packages from Debian ${version}`;
  throw new SetupError('SETUP_PACKAGE_UNKNOWN', message);
}

/** A private state of apt: the system's own is not changed. */
interface PrivateApt {
  /** The system's release: its mirror is asked. */
  readonly release: DebianRelease;
  /** Suites to look into; of two versions, that of the last suite is taken. */
  readonly suites: readonly string[];
  /** True: packages of the system count for nothing, so that all dependencies are resolved. */
  readonly isBare?: boolean;
}

/** Makes a private state of apt, with the system's keys. @returns the options that select it */
export async function privateApt(
  state: string,
  { release, suites, isBare = false }: PrivateApt,
): Promise<string[]> {
  await mkdir(join(state, 'lists/partial'), { recursive: true });
  const [sources, status] = [join(state, 'sources.list'), join(state, 'status')];
  const mirror = await mirrorOf(release);
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const lines = suites.map((suite) => `deb [signed-by=${key}] ${mirror} ${suite} main\n`);
  await writeFile(sources, lines.join(''));
  await writeFile(status, '');
  const settings = {
    'Dir::Etc::sourcelist': sources,
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(state, 'lists'),
    'Dir::Cache::pkgcache': '',
    'Dir::Cache::srcpkgcache': '',
    'Dir::Cache::archives': state,
    'APT::Default-Release': suites.at(-1) ?? '',
    'APT::Sandbox::User': process.getuid?.() === 0 ? 'root' : '',
    ...(isBare && { 'Dir::State::status': status }),
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/**
 * Returns packages with all that they depend on.
 * @param aptOptions select a bare state (`privateApt`)
 * @throws SetupError SETUP_PACKAGE_UNKNOWN
 */
export async function resolveWithDependencies(
  names: readonly string[],
  aptOptions: readonly string[],
): Promise<PackageFile[]> {
  const install = ['-qq', '--yes', '--no-install-recommends', 'install', '--print-uris'];
  const answer = await runCommand('apt-get', [...aptOptions, ...install, ...names]);
  // It prints MD5 sums; `download` has SHA-256.
  const all = [...answer.matchAll(/^'[^']+' ([^ _/]+)_/gm)].map(([, name = '']) => name);
  return resolvePackages(all, aptOptions);
}

/**
 * Returns what `apt-get download` would fetch for each package, without fetching it.
 * @throws SetupError SETUP_PACKAGE_UNKNOWN when apt does not know a package, or has no lists
 */
export async function resolvePackages(
  names: readonly string[],
  aptOptions: readonly string[] = [],
): Promise<PackageFile[]> {
  let answer: string;
  try {
    answer = await runCommand('apt-get', [...aptOptions, 'download', '--print-uris', ...names]);
  } catch (cause) {
    throw new SetupError(
      'SETUP_PACKAGE_UNKNOWN',
      `apt does not offer every package needed (apt-get update?): ${String(cause)}`,
      { cause },
    );
  }
  return answer
    .split('\n')
    .filter((line) => line !== '')
    .map(parsePrintedUri)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Parses a line of --print-uris: 'URI' FILE-NAME SIZE SHA256:DIGEST */
export function parsePrintedUri(line: string): PackageFile {
  const match = /^'[^']+' (([^ _/]+)_[^ /]+\.deb) ([0-9]+) SHA256:([0-9a-f]{64})$/.exec(
    line.trim(),
  );
  const [, fileName, name, bytes, sha256] = match ?? [];
  if (fileName === undefined || name === undefined || bytes === undefined || sha256 === undefined) {
    throw new SetupError('SETUP_PACKAGE_UNKNOWN', `apt-get answered something else: ${line}`);
  }
  return { name, fileName, bytes: Number(bytes), sha256 };
}

/** Downloads packages that are not yet in `folder`. @returns their paths, in order */
export async function downloadPackages(
  packages: readonly PackageFile[],
  folder: string,
  aptOptions: readonly string[] = [],
): Promise<string[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const paths = packages.map((file) => join(folder, `${file.sha256}.deb`));
  const missing: PackageFile[] = [];
  for (const [i, file] of packages.entries()) {
    if ((await digestOf(paths[i] ?? '')) !== file.sha256) missing.push(file);
  }
  if (missing.length === 0) return paths;
  const scratch = join(folder, `download.${process.pid}.${Date.now()}.tmp`);
  await mkdir(scratch);
  try {
    const names = missing.map((file) => file.name);
    await runCommand('apt-get', [...aptOptions, ...KEEP_USER, '-q', 'download', ...names], {
      cwd: scratch,
    });
    for (const file of missing) await takeDownload(file, scratch, folder);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return paths;
}

/** Moves a download into a folder. apt escapes the colon of an epoch in the names of its files. */
async function takeDownload(file: PackageFile, scratch: string, folder: string): Promise<void> {
  const path = join(scratch, file.fileName.replaceAll(':', '%3a'));
  const digest = await digestOf(path);
  if (digest !== file.sha256) {
    throw new SetupError(
      'SETUP_PACKAGE_UNKNOWN',
      `${file.fileName}: digest is ${digest ?? 'none'}`,
    );
  }
  await rename(path, join(folder, `${file.sha256}.deb`));
}

async function digestOf(path: string): Promise<string | undefined> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return hash.digest('hex');
}
