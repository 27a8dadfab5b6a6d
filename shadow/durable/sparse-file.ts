/** File of the store that is written from a container: holes of the container stay holes. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { ShadowError } from '../errors.ts';
import type { ContentSink } from './reader.ts';

/** File that is being written. Close it. */
export class SparseFile implements ContentSink {
  readonly #path: string;
  readonly #fd: number;
  readonly onContent: (bytes: number) => void;

  constructor(path: string, onContent: (bytes: number) => void) {
    this.#path = path;
    this.onContent = onContent;
    this.#fd = guard(path, () => openSync(path, 'wx', 0o600));
  }

  length(bytes: number): void {
    guard(this.#path, () => ftruncateSync(this.#fd, bytes));
  }

  write(content: Buffer, at: number, { offset, bytes }: { offset: number; bytes: number }): void {
    for (let done = 0; done < bytes; ) {
      done += guard(this.#path, () =>
        writeSync(this.#fd, content, at + done, bytes - done, offset + done),
      );
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function guard<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw storeError(path, cause);
  }
}

/** Turns an error of the system into E_STORE_NO_ROOM or E_STORE_IO. */
export function storeError(path: string, cause: unknown): ShadowError {
  const { code } = cause as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'ENOMEM';
  const message = `cannot write ${path}: ${code}`;
  return new ShadowError(full ? 'E_STORE_NO_ROOM' : 'E_STORE_IO', message, { path, cause });
}
