/**
 * Files whose memory is theirs from the start. `fallocate` takes every page when the file is made, so
 * that a full tmpfs is an error then and not in the middle of a stream; a hole gives pages back.
 *
 * Node has no fallocate(2), hence the call into libc.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import koffi from 'koffi';
import { ShadowError } from './errors.ts';
import { type SpareTaker, takeSpare } from './spares.ts';

// <linux/falloc.h>
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

const O_NEW = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
const STEP_BYTES = 256 * 2 ** 20;

const libc = koffi.load('libc.so.6');
// It returns its error instead of setting errno, which a call on another thread could not give us.
const posixFallocate = libc.func('int posix_fallocate(int fd, int64_t offset, int64_t length)');
const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');

/** How a file is to be made. */
export interface FileOptions extends SpareTaker {
  /** Bytes from its beginning that are its own from the start. */
  readonly reservedBytes: number;
  /** Folder of images that may be used again. */
  readonly spares?: string | undefined;
}

/**
 * Makes a file: holes and reserved memory, all zeros, or what a spare had in it.
 * @returns its descriptor, open for reading and writing; the caller's to close
 * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO; no file is left
 */
export async function createReserved(
  path: string,
  { reservedBytes, spares, ...taker }: FileOptions,
): Promise<number> {
  const { kind, length } = taker;
  const recycled = spares !== undefined && (await takeSpare(spares, taker, path));
  const flags = recycled ? constants.O_RDWR : O_NEW;
  let fd: number;
  try {
    fd = openSync(path, flags, 0o600);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ShadowError('E_STORE_IO', `cannot make ${path}: ${code}`, { path, cause });
  }
  try {
    // A packed image may be longer than it has to be: that is memory it will want.
    if (kind === 'full' || fstatSync(fd).size < length) ftruncateSync(fd, length);
    for (let offset = 0; offset < reservedBytes; offset += STEP_BYTES) {
      await reserve(fd, offset, Math.min(STEP_BYTES, reservedBytes - offset));
    }
    return fd;
  } catch (errno) {
    closeSync(fd);
    rmSync(path, { force: true });
    throw systemError('cannot reserve', path, length, Number(errno));
  }
}

/** Off the main thread: taking gigabytes takes seconds. Rejects with errno. */
function reserve(fd: number, offset: number, length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    posixFallocate.async(fd, offset, length, (error: Error | null, errno: number) => {
      if (error !== null) reject(error);
      else if (errno !== 0) reject(errno);
      else resolve();
    });
  });
}

/** Gives a range back to the system; it reads as zeros from now on. */
export function punchHole(fd: number, path: string, offset: number, length: number): void {
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (fallocate(fd, mode, offset, length) !== 0) {
    throw systemError('cannot free a range of', path, length, koffi.errno());
  }
}

function systemError(what: string, path: string, bytes: number, errno: number): ShadowError {
  const full = errno === koffi.os.errno.ENOSPC || errno === koffi.os.errno.ENOMEM;
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? errno;
  const message = `${what} ${path} (${bytes} bytes): ${name}`;
  return full
    ? new ShadowError('E_STORE_NO_ROOM', message, { path, missingBytes: bytes })
    : new ShadowError('E_STORE_IO', message, { path });
}
