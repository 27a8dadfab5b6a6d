/**
 * Calls into libc that Node does not have, and numbers of the kernel that go with them. The only
 * file of shadow that knows koffi. A call that runs on another thread returns its error itself:
 * every thread has an errno of its own, and koffi reads that of the main thread.
 */
import koffi from 'koffi';

/** Bytes of the processor's page (x86-64). */
const PAGE_BYTES = 4096;
/** Unit of st_blocks, bytes, whatever the filesystem (stat(2)). */
export const STAT_BLOCK_BYTES = 512;
/** Types of filesystems that lie in memory, as statfs(2) gives them (linux/magic.h). */
export const TMPFS_MAGIC = 0x01021994;
export const RAMFS_MAGIC = 0x858458f6;

/** Data and holes, as lseek(2) looks for them (linux/fs.h). */
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

// sys/mman.h
const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FAILED = 2n ** 64n - 1n;
const MADV_DONTNEED = 4;
/** Since Linux 5.14. */
const MADV_POPULATE_READ = 22;

// linux/falloc.h
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

const { errno: ERRNO } = koffi.os;

const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');
const munmap = libc.func('int munmap(void *, size_t)');
const madvise = libc.func('int madvise(void *, size_t, int)');
const posixFallocate = libc.func('int posix_fallocate(int fd, int64_t offset, int64_t length)');
const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');

/** Maps a file for reading, shared. @returns its address, or the errno */
export function mapShared(fd: number, length: number): { address: bigint } | { errno: number } {
  const address = BigInt(mmap(null, length, PROT_READ, MAP_SHARED, fd, 0));
  return address === MAP_FAILED ? { errno: koffi.errno() } : { address };
}

/** Ends a mapping. Views of it must not be used any more. */
export function unmap(address: bigint, length: number): void {
  munmap(address, length);
}

/** Returns a view of mapped memory. V8 has none of more than 4 GiB. */
export function viewOf(address: bigint, bytes: number): Buffer {
  return Buffer.from(koffi.view(address, bytes));
}

/** Drops a range of a mapping from the process's resident memory; the file keeps its content. */
export function dropResident(address: bigint, bytes: number): void {
  madvise(address, bytes, MADV_DONTNEED);
}

/**
 * Populates the first page of a mapping.
 * @returns false if this kernel cannot do that (before Linux 5.14)
 */
export function canPopulate(address: bigint): boolean {
  const failed = madvise(address, PAGE_BYTES, MADV_POPULATE_READ) !== 0;
  return !(failed && koffi.errno() === ERRNO.EINVAL);
}

/** Populates a range of a mapping for reading, on another thread. @returns false if it failed */
export function populateRange(address: bigint, bytes: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    madvise.async(address, bytes, MADV_POPULATE_READ, (error: Error | null, result: number) => {
      if (error !== null) reject(error);
      else resolve(result === 0);
    });
  });
}

/** Reserves memory for a range of a file, on another thread. @returns 0, or the errno */
export function reserveRange(fd: number, offset: number, length: number): Promise<number> {
  return new Promise((resolve, reject) => {
    posixFallocate.async(fd, offset, length, (error: Error | null, errno: number) => {
      if (error !== null) reject(error);
      else resolve(errno);
    });
  });
}

/** Frees a range of a file, which reads as zeros from then on. @returns 0, or the errno */
export function freeRange(fd: number, offset: number, length: number): number {
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return fallocate(fd, mode, offset, length) === 0 ? 0 : koffi.errno();
}

/**
 * Finds the next data or hole of a file.
 * @param whence SEEK_DATA or SEEK_HOLE
 * @returns its offset; undefined if there is none up to the end of the file; or the errno
 */
export function findNext(
  fd: number,
  from: number,
  whence: number,
): { offset: number } | { errno: number } | undefined {
  const offset = Number(lseek(fd, from, whence));
  if (offset >= 0) return { offset };
  const errno = koffi.errno();
  return errno === ERRNO.ENXIO ? undefined : { errno };
}

/** Tells whether this errno says that there is no room, on the filesystem or in memory. */
export function isNoRoom(errno: number): boolean {
  return errno === ERRNO.ENOSPC || errno === ERRNO.ENOMEM;
}

/** Returns the name of an errno, such as `ENOSPC`; its number if it has none. */
export function errnoName(errno: number): string {
  return Object.entries(ERRNO).find(([, value]) => value === errno)?.[0] ?? String(errno);
}
