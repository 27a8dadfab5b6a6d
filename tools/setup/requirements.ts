/** Debian packages that the set-up needs, and their installation. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { runCommand } from '../packages/command.ts';
import { SetupError } from '../packages/errors.ts';

/** A file or program the host must have, and the Debian package that contains it. */
export interface Requirement {
  readonly debianPackage: string;
  /** A program on the PATH, or the absolute path of a file. */
  readonly probe: string;
  readonly purpose: string;
}

const REQUIREMENTS: readonly Requirement[] = [
  { debianPackage: 'qemu-system-x86', probe: 'qemu-system-x86_64', purpose: 'runs the guests' },
  { debianPackage: 'seabios', probe: '/usr/share/seabios/bios-256k.bin', purpose: "QEMU's BIOS" },
  { debianPackage: 'gcc', probe: 'gcc', purpose: "compiles the guest's own programs" },
  {
    debianPackage: 'libc6-dev',
    probe: '/usr/lib/x86_64-linux-gnu/libc.a',
    purpose: 'links them statically',
  },
  { debianPackage: 'binutils', probe: 'readelf', purpose: "checks the image's libraries" },
  { debianPackage: 'zstd', probe: 'zstd', purpose: 'compresses the image' },
  { debianPackage: 'xz-utils', probe: 'xz', purpose: "unpacks the guest's kernel modules" },
  { debianPackage: 'e2fsprogs', probe: '/sbin/mkfs.ext4', purpose: 'makes the disks of tests' },
  { debianPackage: 'tar', probe: 'tar', purpose: 'unpacks packages' },
  { debianPackage: 'dpkg', probe: 'dpkg-deb', purpose: 'unpacks packages' },
  { debianPackage: 'apt', probe: 'apt-get', purpose: 'downloads packages' },
];

/** Requirements of the tests with libvirt, and of the relay's benchmark. */
export const LIBVIRT_REQUIREMENTS: readonly Requirement[] = [
  { debianPackage: 'libvirt-daemon', probe: 'libvirtd', purpose: 'stands for a host' },
  {
    debianPackage: 'libvirt-daemon-driver-qemu',
    probe: '/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so',
    purpose: 'runs QEMU for it',
  },
  { debianPackage: 'libvirt-clients', probe: 'virsh', purpose: 'gives it commands' },
  { debianPackage: 'iproute2', probe: 'ip', purpose: 'connects two such hosts' },
  { debianPackage: 'openssl', probe: 'openssl', purpose: 'makes their certificates' },
  { debianPackage: 'systemd', probe: 'systemd-analyze', purpose: 'checks our units' },
  { debianPackage: 'socat', probe: 'socat', purpose: 'the baseline of the relay benchmark' },
];

/** Returns the requirements that are missing. Tests pass `path` and `exists`. */
export function missingRequirements(
  wanted: readonly Requirement[] = REQUIREMENTS,
  path: string = process.env.PATH ?? '',
  exists: (file: string) => boolean = existsSync,
): Requirement[] {
  const folders = path.split(delimiter);
  return wanted.filter(({ probe }) =>
    probe.startsWith('/') ? !exists(probe) : !folders.some((folder) => exists(join(folder, probe))),
  );
}

/** Returns the command that installs the missing packages, for an operator without root. */
export function installCommand(missing: readonly Requirement[]): string {
  const names = [...new Set(missing.map(({ debianPackage }) => debianPackage))];
  return `sudo apt-get install --no-install-recommends -y ${names.join(' ')}`;
}

/**
 * Installs missing packages if we are root.
 * @throws SetupError SETUP_PACKAGES_MISSING with the command to run, without root or if a
 * requirement
 *   is still missing afterwards; SETUP_COMMAND_FAILED if apt-get fails
 */
export async function ensureRequirements(
  progress: (line: string) => void,
  wanted: readonly Requirement[] = REQUIREMENTS,
): Promise<void> {
  const missing = missingRequirements(wanted);
  if (missing.length === 0) return;
  for (const { probe, purpose } of missing) progress(`missing: ${probe} (${purpose})`);
  const names = [...new Set(missing.map(({ debianPackage }) => debianPackage))];
  if (process.getuid?.() !== 0) throw packagesMissing(missing);
  progress(`installing: ${names.join(' ')}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  await runCommand('apt-get', ['-q', 'update'], { env });
  await runCommand('apt-get', ['-q', 'install', '-y', '--no-install-recommends', ...names], {
    env,
  });
  const still = missingRequirements(wanted);
  if (still.length > 0) throw packagesMissing(still);
}

function packagesMissing(missing: readonly Requirement[]): SetupError {
  const what = missing.map(({ probe }) => probe).join(', ');
  const message = `${what} not found. Run:\n\n  ${installCommand(missing)}\n`;
  return new SetupError('SETUP_PACKAGES_MISSING', message);
}
