/** Errors of the durable tier's disk, by Umbra's codes. */
import type { FileHandle } from 'node:fs/promises';
import { ShadowError } from '../errors.ts';

const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Turns an error of the system into one of the durable tier. An error that has a code of ours
 * stays.
 */
export function diskError(what: string, path: string, cause: unknown): ShadowError {
  if (cause instanceof ShadowError) return cause;
  const { code = String(cause) } = cause as NodeJS.ErrnoException;
  const full = FULL.has(code);
  const message = full ? `the disk is full: cannot ${what} ${path}` : `cannot ${what} ${path}`;
  return new ShadowError(full ? 'E_DURABLE_NO_ROOM' : 'E_DURABLE_IO', `${message}: ${code}`, {
    path,
    cause,
  });
}

/**
 * Runs work on the disk, and turns its errors into E_DURABLE_NO_ROOM or E_DURABLE_IO.
 * @param what the work, as in `cannot WHAT PATH`
 */
export async function onDisk<T>(what: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw diskError(what, path, cause);
  }
}

/**
 * Writes all parts. A writev(2) may write less than it was given; the next one then reports why.
 */
export async function writeAll(handle: FileHandle, parts: readonly Buffer[]): Promise<void> {
  let rest = parts.filter(({ length }) => length > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await handle.writev(rest);
    const left: Buffer[] = [];
    for (const part of rest) {
      const taken = Math.min(bytesWritten, part.length);
      bytesWritten -= taken;
      if (taken < part.length) left.push(part.subarray(taken));
    }
    rest = left;
  }
}
