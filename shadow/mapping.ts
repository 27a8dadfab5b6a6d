/**
 * Sealed files in memory, to be compared with at memory speed. The only place that maps anything.
 *
 * A page beyond the file's end kills whoever reads it (SIGBUS), and so does a view that outlives its
 * mapping: so views never leave this file, only sealed files are mapped, and their length is checked
 * first. A hole of a tmpfs file is filled when it is read through a mapping: ask for pages it holds.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { ShadowError } from './errors.ts';

// <sys/mman.h>
const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FAILED = 2n ** 64n - 1n;

const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');
const munmap = libc.func('int munmap(void *, size_t)');

export class Mapping {
  readonly #path: string;
  readonly #address: bigint;
  readonly #length: number;
  #view: Buffer | undefined;

  /**
   * @param length bytes the file must have
   * @throws ShadowError E_EPOCH_CORRUPT, E_STORE_IO
   */
  constructor(path: string, length: number) {
    this.#path = path;
    this.#length = length;
    const fd = openSync(path, 'r');
    try {
      const { size } = fstatSync(fd);
      if (size !== length || length === 0) {
        const message = `${path} holds ${size} bytes instead of ${length}`;
        throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
      }
      this.#address = BigInt(mmap(null, length, PROT_READ, MAP_SHARED, fd, 0) ?? MAP_FAILED);
      if (this.#address === MAP_FAILED) {
        throw new ShadowError('E_STORE_IO', `cannot map ${path}: errno ${koffi.errno()}`, { path });
      }
      this.#view = Buffer.from(koffi.view(this.#address, length));
    } finally {
      closeSync(fd);
    }
  }

  /** Are `count` bytes at `offset` of the file those at `bytes[at]`? */
  equals(offset: number, bytes: Uint8Array, at: number, count: number): boolean {
    const view = this.#required(offset, count);
    return view.compare(bytes, at, at + count, offset, offset + count) === 0;
  }

  /** Copies `into.length` bytes from `offset` of the file. */
  copy(offset: number, into: Uint8Array): void {
    this.#required(offset, into.length).copy(into, 0, offset, offset + into.length);
  }

  #required(offset: number, count: number): Buffer {
    const view = this.#view;
    if (view !== undefined && offset + count <= this.#length) return view;
    throw new ShadowError('E_SHADOW_CLOSED', `${this.#path} is not mapped`, { path: this.#path });
  }

  /** Idempotent. */
  close(): void {
    if (this.#view === undefined) return;
    this.#view = undefined;
    munmap(this.#address, this.#length);
  }
}
