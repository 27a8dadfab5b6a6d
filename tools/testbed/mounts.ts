/** What a process sees of the file system, without touching anyone else's. */
import { dirname, join } from 'node:path';
import type { QemuBinary } from '../qemu/qemu.ts';

/** Where libvirt's domains find their QEMU. */
export const EMULATOR = '/usr/bin/qemu-system-x86_64';

/** Mounts in a namespace of its own, `[from, to]` each, before what is run there. */
export function withMounts(mounts: readonly (readonly [string, string])[]): string[] {
  const script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift';
  const words = ['unshare', '--mount', '--propagation', 'private'];
  return [...words, 'sh', '-c', `${script}; exec "$@"`, 'sh', ...mounts.flat(), '--'];
}

/**
 * QEMU loads modules from the system's folder, and dies of those of another version: the newest
 * takes the system's place where libvirt looks.
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
