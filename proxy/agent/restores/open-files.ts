/**
 * Compares the files of a VM's disks with those that its QEMU has open.
 *
 * When a migration ends, QEMU opens anew, by name, the file of a disk that `-drive` has made
 * (bdrv_inactivate_all, block.c; raw_reconfigure_getfd, block/file-posix.c; 7.2 and 10.0). If
 * another file has taken that name since, the VM goes on with that one, without a word; if there is
 * none, the migration fails when the VM is stopped already.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UmbraError } from '../../failure/failure.ts';
import type { ExamineResult } from '../../protocol/member.ts';

type Disks = ExamineResult['disks'];

/**
 * Refuses a VM one of whose disks is by now another file than QEMU has open. Without the right to
 * look at QEMU's descriptors it is not checked.
 * @throws UmbraError E_DISK_REPLACED
 */
export function requireOpenFiles(pid: number, disks: Disks): void {
  const open = openFiles(pid);
  if (open.size === 0) return;
  for (const { device, files } of disks) {
    for (const file of files) {
      // QEMU may see other devices below /dev than this process (a mount namespace of libvirt's).
      const id = fileId(join(`/proc/${pid}/root`, file)) ?? fileId(file);
      if (id === undefined || open.has(id)) continue;
      const message = `${file} (${device}) is not the file that QEMU has open: it was replaced`;
      throw new UmbraError({ code: 'E_DISK_REPLACED', message });
    }
  }
}

/** Returns a file's identity, by whatever path it is reached; undefined if it is not there. */
export function fileId(path: string): string | undefined {
  try {
    const { dev, ino, rdev } = statSync(path);
    return rdev === 0 ? `${dev}:${ino}` : `device ${rdev}`;
  } catch {
    return undefined;
  }
}

function openFiles(pid: number): ReadonlySet<string> {
  const folder = `/proc/${pid}/fd`;
  try {
    const ids = readdirSync(folder).map((name) => fileId(join(folder, name)));
    return new Set(ids.filter((id) => id !== undefined));
  } catch {
    return new Set();
  }
}
