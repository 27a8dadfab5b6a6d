/**
 * Knows which libvirts cannot have which QEMUs load a save image.
 *
 *     libvirt 9.0, 11.3   hands QEMU an open file (`fd:`)
 *     libvirt 12.9        names the file (`file:`)
 *     QEMU 11.1           takes no regular file behind `fd:` any more ("migration to a file is not
 *                         supported. Use file: instead", migration/fd.c); a pipe it takes
 *
 * In such a pair only a domain whose memory can be mapped comes back: the rest of its state is read
 * from a pipe.
 */
import { virsh } from '../../../qmp/libvirt/index.ts';
import { isAtLeast } from '../../command-line/reconnect.ts';

/** The versions that were tried. */
const NAMES_FILES_SINCE = [12, 0] as const;
const TAKES_NO_FILE_SINCE = [11, 0] as const;

/**
 * Returns, in words, that this libvirt cannot have this QEMU read a save image; undefined if it
 * can, or the version is not known.
 */
export async function saveImageObstacle(
  uri: string,
  qemuVersion: string,
): Promise<string | undefined> {
  if (!isAtLeast(qemuVersion, TAKES_NO_FILE_SINCE)) return undefined;
  const version = daemonVersion(await virsh(uri, ['version', '--daemon']).catch(() => ''));
  if (version === undefined || isAtLeast(version, NAMES_FILES_SINCE)) return undefined;
  return `libvirt ${version} cannot have QEMU ${qemuVersion} read a save image`;
}

/** Returns the version of the daemon in what `virsh version --daemon` prints. */
export function daemonVersion(text: string): string | undefined {
  return /^Running against daemon: (\d+\.\d+\.\d+)$/m.exec(text)?.[1];
}
