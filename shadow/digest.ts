/**
 * Reads sealed images without waking their holes. A read fault on a mapping of a sparse tmpfs file
 * allocates a page for every hole it touches, read(2) does not (mm/shmem.c): so whole images are read
 * with read(2), however fast a mapping would be.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { ShadowError } from './errors.ts';

const PIECE_BYTES = 1024 * 1024;

/**
 * SHA-256 of a file, as hexadecimal: what `sha256sum FILE` prints.
 * @param bytes the length it must have
 * @throws ShadowError E_EPOCH_CORRUPT when it has another length or cannot be read
 */
export async function digestFile(path: string, bytes: number): Promise<string> {
  const handle = await open(path, 'r').catch((cause: unknown) => {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  });
  try {
    requireLength(path, (await handle.stat()).size, bytes);
    const hash = createHash('sha256');
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    for (let offset = 0; offset < bytes; ) {
      const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, offset);
      if (bytesRead === 0) throw shortRead(path, offset);
      hash.update(piece.subarray(0, bytesRead));
      offset += bytesRead;
    }
    return hash.digest('hex');
  } finally {
    await handle.close();
  }
}

/** One image, read page by page in ascending order or nearly so. Close it. */
export class ImageReader {
  readonly #path: string;
  readonly #fd: number;
  readonly #window = Buffer.allocUnsafe(PIECE_BYTES);
  #start = 0;
  #filled = 0;

  /** @throws ShadowError E_EPOCH_CORRUPT */
  constructor(path: string, bytes: number) {
    this.#path = path;
    try {
      this.#fd = openSync(path, 'r');
    } catch (cause) {
      throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
    }
    requireLength(path, fstatSync(this.#fd).size, bytes);
  }

  /** Copies `zero.length` bytes to `into[at]`. @returns false, copying nothing, if they equal `zero` */
  read(offset: number, into: Uint8Array, at: number, zero: Uint8Array): boolean {
    const length = zero.length;
    if (offset < this.#start || offset + length > this.#start + this.#filled) this.#fill(offset);
    const from = offset - this.#start;
    if (from + length > this.#filled) throw shortRead(this.#path, offset);
    if (this.#window.compare(zero, 0, length, from, from + length) === 0) return false;
    this.#window.copy(into, at, from, from + length);
    return true;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #fill(offset: number): void {
    this.#start = offset;
    this.#filled = readSync(this.#fd, this.#window, 0, PIECE_BYTES, offset);
  }
}

function requireLength(path: string, found: number, expected: number): void {
  if (found === expected) return;
  const message = `${path} holds ${found} bytes instead of ${expected}`;
  throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
}

function shortRead(path: string, offset: number): ShadowError {
  return new ShadowError('E_EPOCH_CORRUPT', `${path} ends at byte ${offset}`, { path });
}
