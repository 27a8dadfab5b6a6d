/**
 * Files whose memory is reserved from the start. `fallocate` takes every page when the file is
 * made, so that a full tmpfs is an error then, and not a signal in the middle of a stream. Punching
 * a hole gives pages back.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import { ShadowError } from './errors.ts';
import { errnoName, freeRange, isNoRoom, reserveRange } from './libc.ts';
import { type SpareTaker, takeSpare } from './spares.ts';

const O_NEW = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
const STEP_BYTES = 256 * 2 ** 20;

/** Options of a file that is made. */
export interface FileOptions extends SpareTaker {
  /** Bytes from the file's beginning that are reserved from the start. */
  readonly reservedBytes: number;
  /** Folder of images that may be written again. */
  readonly spares?: string | undefined;
}

/**
 * Makes a file of holes and reserved memory. It reads as zeros, or, if a spare was taken, as what
 * the spare had in it.
 * @returns its descriptor, open for reading and writing; the caller closes it
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
    // A delta may keep a longer spare than it needs now: it will need that memory later.
    if (kind === 'full' || fstatSync(fd).size < length) ftruncateSync(fd, length);
    for (let offset = 0; offset < reservedBytes; offset += STEP_BYTES) {
      // On another thread: to reserve gigabytes takes seconds.
      const errno = await reserveRange(fd, offset, Math.min(STEP_BYTES, reservedBytes - offset));
      if (errno !== 0) throw systemError('cannot reserve', path, length, errno);
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    rmSync(path, { force: true });
    if (error instanceof ShadowError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const message = `cannot make ${path} (${length} bytes): ${code}`;
    throw new ShadowError('E_STORE_IO', message, { path, cause: error });
  }
}

/**
 * Frees the memory of a range, which reads as zeros from then on. @throws ShadowError E_STORE_IO
 */
export function punchHole(fd: number, path: string, offset: number, length: number): void {
  const errno = freeRange(fd, offset, length);
  if (errno !== 0) throw systemError('cannot free a range of', path, length, errno);
}

function systemError(what: string, path: string, bytes: number, errno: number): ShadowError {
  const message = `${what} ${path} (${bytes} bytes): ${errnoName(errno)}`;
  return isNoRoom(errno)
    ? new ShadowError('E_STORE_NO_ROOM', message, { path, missingBytes: bytes })
    : new ShadowError('E_STORE_IO', message, { path });
}
