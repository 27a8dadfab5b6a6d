import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { runCommand } from '../packages/command.ts';
import { secondQemuArgs, secondQemuBinary } from './second-qemu.ts';

export interface QemuBinary {
  /** Version that the program reports, such as `7.2.22`. */
  readonly version: string;
  readonly binary: string;
  /** Arguments that must come first on its command line, such as `-L FOLDER`. */
  readonly args: readonly string[];
}

const PROGRAM_NAME = 'qemu-system-x86_64';

/** Finds the QEMUs of this machine: the system's, then the cached second one. There may be none. */
export async function findQemus(): Promise<QemuBinary[]> {
  const system = (process.env.PATH ?? '').split(delimiter).map((dir) => join(dir, PROGRAM_NAME));
  const first = await firstExecutable(system);
  const second = await firstExecutable([secondQemuBinary()]);
  const found = await Promise.all([
    first === undefined ? undefined : describe(first, []),
    second === undefined ? undefined : describe(second, secondQemuArgs()),
  ]);
  return found.filter((qemu) => qemu !== undefined);
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
