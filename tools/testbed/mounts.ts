/** Prefixes of commands that run in a mount namespace of their own. */
import { dirname, join } from 'node:path';
import type { QemuBinary } from '../qemu/qemu.ts';

/** Path of QEMU in the XML of our domains. */
export const EMULATOR = '/usr/bin/qemu-system-x86_64';

/**
 * Returns the prefix of a command that runs in a mount namespace of its own.
 * @param mounts bind mounts there, `[from, to]` each
 */
export function withMounts(mounts: readonly (readonly [string, string])[]): string[] {
  const script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift';
  const words = ['unshare', '--mount', '--propagation', 'private'];
  return [...words, 'sh', '-c', `${script}; exec "$@"`, 'sh', ...mounts.flat(), '--'];
}

/**
 * Returns the mounts that put a QEMU in the place of the system's. QEMU loads its modules from the
 * system's folder and crashes on modules of another version, so the folders are replaced as well.
 */
export function newestInPlace({ binary }: QemuBinary): [string, string][] {
  if (binary === EMULATOR) return [];
  const root = join(dirname(binary), '../..');
  return [
    'usr/bin/qemu-system-x86_64',
    'usr/lib/x86_64-linux-gnu/qemu',
    'usr/share/qemu',
    'usr/share/seabios',
  ].map((path) => [join(root, path), join('/', path)]);
}
