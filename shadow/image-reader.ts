/**
 * Reads sealed images without filling their holes. A read fault on a mapping of a sparse tmpfs file
 * allocates a page for every hole it touches; read(2) does not (mm/shmem.c). Whole images are
 * therefore read with read(2), however fast a mapping would be.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { alignedBuffer } from './aligned-buffer.ts';
import { ShadowError } from './errors.ts';
import type { ImageKind } from './names.ts';
import { CHUNK_SLOTS, chunkChecksum, heldSlots, type PageIndex } from './page-index.ts';

/**
 * Bytes read at once: whole images are read in order, deltas in the order of the block's pages,
 * which is not the order of the file.
 */
const WINDOW_BYTES: Readonly<Record<ImageKind, number>> = { full: 2 ** 20, delta: 2 ** 16 };

/**
 * Verifies an image against its index: the slots it holds by their checksums. In a whole image,
 * which QEMU maps as it is, all other slots must be zeros.
 * @throws ShadowError E_EPOCH_CORRUPT if it has another length or content, or cannot be read
 */
export async function verifyImage(path: string, index: PageIndex, kind: ImageKind): Promise<void> {
  const { pageSize, slots, checksums } = index;
  const handle = await open(path, 'r').catch((cause: unknown) => {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  });
  try {
    requireLength(path, (await handle.stat()).size, slots * pageSize);
    const held = heldSlots(index);
    const piece = alignedBuffer(CHUNK_SLOTS * pageSize);
    const zeros = Buffer.alloc(kind === 'full' ? piece.length : 0);
    for (const [chunk, expected] of checksums.entries()) {
      const from = chunk * CHUNK_SLOTS;
      const bytes = Math.min(CHUNK_SLOTS, slots - from) * pageSize;
      const { bytesRead } = await handle.read(piece, 0, bytes, from * pageSize);
      if (bytesRead !== bytes) throw shortRead(path, from * pageSize);
      const holes = kind === 'delta' || holesAreZeros(piece, zeros, held.subarray(from), pageSize);
      if (holes && chunkChecksum(piece, held, from, pageSize) === expected) continue;
      const where = `${path} does not match its checksum between ${from * pageSize} and`;
      const message = `${where} ${from * pageSize + bytes}`;
      throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
    }
  } finally {
    await handle.close();
  }
}

/**
 * Tells whether slots that hold no page are zeros.
 * @param held of the slots whose content `piece` begins with
 */
function holesAreZeros(piece: Buffer, zeros: Buffer, held: Uint8Array, pageSize: number): boolean {
  const count = Math.min(CHUNK_SLOTS, held.length);
  for (let slot = held.indexOf(0); slot !== -1 && slot < count; ) {
    const next = held.indexOf(1, slot);
    const end = next === -1 ? count : Math.min(next, count);
    if (piece.compare(zeros, 0, (end - slot) * pageSize, slot * pageSize, end * pageSize) !== 0) {
      return false;
    }
    slot = held.indexOf(0, end);
  }
  return true;
}

/** Reader of one image, page by page in ascending order or nearly so. Close it. */
export class ImageReader {
  readonly #path: string;
  readonly #fd: number;
  readonly #window: Buffer;
  #zero = Buffer.alloc(0);
  #start = 0;
  #filled = 0;

  /** @throws ShadowError E_EPOCH_CORRUPT */
  constructor(path: string, bytes: number, kind: ImageKind) {
    this.#path = path;
    this.#window = alignedBuffer(Math.min(WINDOW_BYTES[kind], bytes));
    try {
      this.#fd = openSync(path, 'r');
    } catch (cause) {
      throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
    }
    try {
      requireLength(path, fstatSync(this.#fd).size, bytes);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /**
   * Copies `length` bytes to `into[at]`. @returns false, copying nothing, if all of them are zero
   */
  read(offset: number, into: Uint8Array, at: number, length: number): boolean {
    if (offset < this.#start || offset + length > this.#start + this.#filled) this.#fill(offset);
    const from = offset - this.#start;
    if (from + length > this.#filled) throw shortRead(this.#path, offset);
    if (this.#zero.length !== length) this.#zero = Buffer.alloc(length);
    if (this.#window.compare(this.#zero, 0, length, from, from + length) === 0) return false;
    this.#window.copy(into, at, from, from + length);
    return true;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #fill(offset: number): void {
    this.#start = offset;
    this.#filled = readSync(this.#fd, this.#window, 0, this.#window.length, offset);
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
