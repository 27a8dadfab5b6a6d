/**
 * Stamps: what stat(2) says of a sealed file, to tell later whether the file was touched since. A
 * sealed file's inode, size, modification time and change time stay as they are unless a process
 * writes to it, and the change time cannot be set back. As long as they agree, and the host has not
 * been rebooted, a restore may trust the digest taken at the seal instead of reading the whole file
 * again. A flipped bit of RAM is beyond this check: verifying `all` reads everything.
 *
 * Manifests call a stamp `witness`.
 */
import { readFileSync, statSync } from 'node:fs';
import * as z from 'zod';

export const fileStampSchema = z.object({
  boot: z.string().max(64),
  inode: z.string().max(32),
  size: z.number().int().nonnegative(),
  modifiedNs: z.string().max(32),
  changedNs: z.string().max(32),
});

export type FileStamp = z.infer<typeof fileStampSchema>;

let bootId: string | undefined;

/** Takes a file's stamp. Synchronous: the file is in memory, so nothing waits for a disk. */
export function takeFileStamp(path: string): FileStamp {
  const stats = statSync(path, { bigint: true });
  bootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return {
    boot: bootId,
    inode: String(stats.ino),
    size: Number(stats.size),
    modifiedNs: String(stats.mtimeNs),
    changedNs: String(stats.ctimeNs),
  };
}

/** Tells whether a file that had stamp `a` and has stamp `b` was left untouched. */
export function fileStampsAgree(a: FileStamp, b: FileStamp): boolean {
  return (
    a.boot === b.boot &&
    a.inode === b.inode &&
    a.size === b.size &&
    a.modifiedNs === b.modifiedNs &&
    a.changedNs === b.changedNs
  );
}
