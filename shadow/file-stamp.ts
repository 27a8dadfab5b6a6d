/**
 * Was this file touched since it was sealed? The kernel knows: a sealed file's inode, size,
 * modification and change times stay as they were unless someone wrote to it, and times of
 * change cannot be set back. While they stand, and the host has not been rebooted, a restore may
 * trust the digest taken at the seal instead of reading all of it again; otherwise it must not.
 * (A flipped bit of RAM is beyond this check; `verify` reads everything.)
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

/** @param path in memory: nothing waits for a disk */
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

export function fileStampsAgree(a: FileStamp, b: FileStamp): boolean {
  return (
    a.boot === b.boot &&
    a.inode === b.inode &&
    a.size === b.size &&
    a.modifiedNs === b.modifiedNs &&
    a.changedNs === b.changedNs
  );
}
