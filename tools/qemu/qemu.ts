import { existsSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { delimiter, dirname, join, resolve } from 'node:path';
import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';
import { nextQemuBinary } from './next-qemu.ts';
import { secondQemuBinary } from './second-qemu.ts';

export interface QemuBinary {
  /** Version that the program reports, such as `7.2.22`. */
  readonly version: string;
  readonly binary: string;
  /** Arguments that must come first on its command line, such as `-L FOLDER`. */
  readonly args: readonly string[];
}

const PROGRAM_NAME = 'qemu-system-x86_64';
/** Folders of installed QEMUs, which find their own files. */
const SYSTEM_PREFIXES = ['/', '/usr', '/usr/local'];

/**
 * Finds the QEMUs of this machine: the system's, then the cached second one. There may be none.
 * UMBRA_QEMU names one that is used in place of all of them.
 * @throws SetupError SETUP_BAD_QEMU if the one that is named does not run here
 */
export async function findQemus(
  environment: NodeJS.ProcessEnv = process.env,
): Promise<QemuBinary[]> {
  const { UMBRA_QEMU: named, PATH = '' } = environment;
  if (named !== undefined && named !== '') return [await namedQemu(named)];
  const system = PATH.split(delimiter).map((dir) => join(dir, PROGRAM_NAME));
  const second = await secondQemuBinary().catch(() => undefined);
  const binaries = await Promise.all([
    firstExecutable(system),
    second === undefined ? undefined : firstExecutable([second]),
  ]);
  const found = await Promise.all(
    binaries.map((path) => (path === undefined ? undefined : describe(path, dataArgs(path)))),
  );
  return found.filter((qemu) => qemu !== undefined);
}

/** Finds the QEMU of the next Debian release, for tests that try it, too; it may not be there. */
export async function findNextQemu(
  environment: NodeJS.ProcessEnv = process.env,
): Promise<QemuBinary | undefined> {
  if (environment.UMBRA_QEMU) return undefined;
  const path = await nextQemuBinary().catch(() => undefined);
  return path === undefined ? undefined : describe(path, dataArgs(path));
}

/** Describes the QEMU that UMBRA_QEMU names. @throws SetupError SETUP_BAD_QEMU */
async function namedQemu(named: string): Promise<QemuBinary> {
  const path = resolve(named);
  const found = await describe(path, dataArgs(path));
  if (found !== undefined) return found;
  throw new SetupError('SETUP_BAD_QEMU', `UMBRA_QEMU: ${path} is no QEMU that runs here`);
}

/**
 * Returns the arguments with which a QEMU finds its firmware: one that was unpacked into a folder
 * looks for it in the system's, which has another version's or none.
 */
export function dataArgs(binary: string): string[] {
  const prefix = dirname(dirname(binary));
  if (SYSTEM_PREFIXES.includes(prefix)) return [];
  const folders = ['qemu', 'seabios'].map((name) => join(prefix, 'share', name));
  return folders.filter((folder) => existsSync(folder)).flatMap((folder) => ['-L', folder]);
}

/** Describes a QEMU; undefined if it does not run here (missing library, another processor). */
export async function describe(
  binary: string,
  args: readonly string[],
): Promise<QemuBinary | undefined> {
  try {
    const answer = await runCommand(binary, ['--version'], { timeoutMs: 10_000 });
    const version = parseVersion(answer);
    return version === undefined ? undefined : { version, binary, args };
  } catch {
    return undefined;
  }
}

export function parseVersion(answer: string): string | undefined {
  return /^QEMU emulator version ([0-9]+\.[0-9]+\.[0-9]+)/.exec(answer)?.[1];
}

async function firstExecutable(candidates: readonly string[]): Promise<string | undefined> {
  for (const path of candidates) {
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // Look further.
    }
  }
  return undefined;
}
