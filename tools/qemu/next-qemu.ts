/**
 * The QEMU of the next Debian release, for tests on this one: its backports' QEMU, with every
 * library that it needs.
 *
 *     packages and all their dependencies ─▶ unpacked in the cache ─▶ patchelf: its own loader and
 *                                                                     libraries, by their paths
 *
 * So it is a program like any other: /proc/PID/exe is QEMU, and not the loader.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { downloadPackages, privateApt, resolveWithDependencies } from '../packages/apt.ts';
import { cachedFolder, cacheFolder } from '../packages/cache.ts';
import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';
import { DEBIAN_RELEASES, type DebianRelease, systemRelease } from '../packages/release.ts';

const PACKAGES = ['qemu-system-x86', 'qemu-system-data', 'seabios', 'patchelf'];
const LOADER = 'usr/lib64/ld-linux-x86-64.so.2';
const LIBRARIES = 'usr/lib/x86_64-linux-gnu';

/** Returns the path of that QEMU, which may not be there; undefined if there is no next release. */
export async function nextQemuBinary(): Promise<string | undefined> {
  const next = await nextRelease();
  return next && join(folderOf(next), 'usr/bin/qemu-system-x86_64');
}

async function nextRelease(): Promise<DebianRelease | undefined> {
  const { version } = await systemRelease();
  return DEBIAN_RELEASES.find((release) => release.version === version + 1);
}

function folderOf({ backports }: DebianRelease): string {
  return join(cacheFolder(), 'qemu', backports);
}

/**
 * Downloads that QEMU if it is not in the cache. Does nothing if there is no next release.
 * @throws SetupError SETUP_NEXT_QEMU_UNAVAILABLE
 */
export async function ensureNextQemu(progress: (line: string) => void): Promise<void> {
  try {
    const [release, next] = [await systemRelease(), await nextRelease()];
    if (next === undefined) return;
    const final = folderOf(next);
    await cachedFolder(final, async (scratch) => {
      progress(`next QEMU: asking ${next.backports}`);
      const state = join(scratch, 'apt');
      const suites = [next.codename, next.backports];
      const options = await privateApt(state, { release, suites, isBare: true });
      await runCommand('apt-get', [...options, '-q', 'update'], { timeoutMs: 300_000 });
      const packages = await resolveWithDependencies(PACKAGES, options);
      const bytes = packages.reduce((sum, file) => sum + file.bytes, 0);
      progress(`next QEMU: ${packages.length} packages, ${Math.round(bytes / 1e6)} MB`);
      const files = await downloadPackages(packages, join(cacheFolder(), 'packages'), options);
      for (const file of files) await runCommand('dpkg-deb', ['-x', file, scratch]);
      await rm(state, { recursive: true });
      await rm(join(scratch, 'usr/share/doc'), { recursive: true, force: true });
      await useOwnLibraries(scratch, final);
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SetupError('SETUP_NEXT_QEMU_UNAVAILABLE', why, { cause });
  }
}

/**
 * Writes the loader and the libraries of a folder into its QEMU.
 * @param final where the folder will be
 */
async function useOwnLibraries(folder: string, final: string): Promise<void> {
  const program = join(folder, 'usr/bin/qemu-system-x86_64');
  const loader = ['--library-path', join(folder, LIBRARIES), join(folder, 'usr/bin/patchelf')];
  const paths = ['--set-interpreter', join(final, LOADER), '--set-rpath', join(final, LIBRARIES)];
  // --force-rpath: libraries look there for those that they need themselves.
  await runCommand(join(folder, LOADER), [...loader, '--force-rpath', ...paths, program]);
}
