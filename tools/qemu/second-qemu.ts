import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { downloadPackages, privateApt, resolvePackages } from '../packages/apt.ts';
import { cachedFolder, cacheFolder } from '../packages/cache.ts';
import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';
import { type DebianRelease, systemRelease } from '../packages/release.ts';

const PACKAGE_NAMES = ['qemu-system-x86', 'qemu-system-common', 'qemu-system-data', 'seabios'];

/**
 * Returns the path of the second QEMU: Debian's newer one for this release, beside the system's, so
 * that tests cover both versions. It may not be there.
 *
 * It is downloaded through a private apt state: the system's sources remain unchanged. It is not
 * installed; it runs from the cache, on the system's libraries.
 * @throws SetupError SETUP_RELEASE_UNKNOWN
 */
export async function secondQemuBinary(): Promise<string> {
  return join(folderOf(await systemRelease()), 'usr/bin/qemu-system-x86_64');
}

function folderOf({ backports }: DebianRelease): string {
  return join(cacheFolder(), 'qemu', backports);
}

/**
 * Downloads the second QEMU if it is not in the cache. Only tests need it.
 * @throws SetupError SETUP_SECOND_QEMU_UNAVAILABLE
 */
export async function ensureSecondQemu(progress: (line: string) => void): Promise<void> {
  try {
    const release = await systemRelease();
    await cachedFolder(folderOf(release), async (scratch) => {
      progress(`second QEMU: asking ${release.backports}`);
      const state = join(scratch, 'apt');
      const options = await privateApt(state, { release, suites: [release.backports] });
      await runCommand('apt-get', [...options, '-q', 'update'], { timeoutMs: 120_000 });
      const packages = await resolvePackages(PACKAGE_NAMES, options);
      const bytes = packages.reduce((sum, file) => sum + file.bytes, 0);
      progress(`second QEMU: ${packages.length} packages, ${Math.round(bytes / 1e6)} MB`);
      const files = await downloadPackages(packages, join(cacheFolder(), 'packages'), options);
      for (const file of files) await runCommand('dpkg-deb', ['-x', file, scratch]);
      await rm(state, { recursive: true });
      await rm(join(scratch, 'usr/share/doc'), { recursive: true, force: true });
      await runCommand(join(scratch, 'usr/bin/qemu-system-x86_64'), ['--version']);
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SetupError('SETUP_SECOND_QEMU_UNAVAILABLE', why, { cause });
  }
}
