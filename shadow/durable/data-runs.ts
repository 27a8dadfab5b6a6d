/**
 * Finds the content of a sparse file, by SEEK_DATA and SEEK_HOLE of lseek(2), which Node does not
 * have. On tmpfs the result is exact to the page. A filesystem that does not know its holes reports
 * all of the file.
 */
import { ShadowError } from '../errors.ts';
import { errnoName, findNext, SEEK_DATA, SEEK_HOLE } from '../libc.ts';
import type { Extent } from './container.ts';

/**
 * Returns the runs of content, ascending, none longer than `most` bytes.
 * @throws ShadowError E_STORE_IO
 */
export function* dataRuns(
  fd: number,
  path: string,
  fileBytes: number,
  most: number,
): Generator<Extent> {
  for (let at = 0; at < fileBytes; ) {
    const start = seek(fd, path, at, SEEK_DATA);
    if (start === undefined || start >= fileBytes) return;
    const end = Math.min(seek(fd, path, start, SEEK_HOLE) ?? fileBytes, fileBytes);
    for (let offset = start; offset < end; offset += most) {
      yield { offset, bytes: Math.min(most, end - offset) };
    }
    at = end;
  }
}

/** Finds the next data or hole. @returns undefined if there is none up to the end */
function seek(fd: number, path: string, from: number, whence: number): number | undefined {
  const found = findNext(fd, from, whence);
  if (found === undefined) return undefined;
  if ('offset' in found) return found.offset;
  const message = `cannot look for data in ${path}: ${errnoName(found.errno)}`;
  throw new ShadowError('E_STORE_IO', message, { path });
}
