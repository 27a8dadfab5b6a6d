/**
 * Sealed files in memory, to be compared with at memory speed. The only place that maps anything.
 *
 *     file     |   window   |   window   |   window   | …      32 MiB each, the last is shorter
 *                    ▲             ▲
 *                  two of them are mapped, the ones that were used last
 *
 * A stream goes through memory in order, so one window is what it needs, and a process that compares
 * with gigabytes does not hold them. A page beyond the file's end kills whoever reads it (SIGBUS), and so
 * does a view that outlives its mapping: so views never leave this file, only sealed files are mapped,
 * and their length is checked first. A hole of a tmpfs file is filled when it is read through a
 * mapping: ask for pages it holds.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { ShadowError } from './errors.ts';

// <sys/mman.h>
const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FAILED = 2n ** 64n - 1n;

const WINDOW_BYTES = 32 * 2 ** 20;
const WINDOWS_MAX = 2;

const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');
const munmap = libc.func('int munmap(void *, size_t)');

interface Window {
  readonly start: number;
  readonly address: bigint;
  readonly view: Buffer;
}

export class Mapping {
  readonly #path: string;
  readonly #length: number;
  readonly #fd: number;
  /** Used last comes first. */
  #windows: Window[] = [];
  #open = true;

  /**
   * @param length bytes the file must have
   * @throws ShadowError E_EPOCH_CORRUPT
   */
  constructor(path: string, length: number) {
    this.#path = path;
    this.#length = length;
    this.#fd = openSync(path, 'r');
    const { size } = fstatSync(this.#fd);
    if (size === length) return;
    closeSync(this.#fd);
    const message = `${path} holds ${size} bytes instead of ${length}`;
    throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
  }

  /** Are `count` bytes at `offset` of the file those at `bytes[at]`? They are within a window. */
  equals(offset: number, bytes: Uint8Array, at: number, count: number): boolean {
    const { start, view } = this.#windowOf(offset);
    const from = offset - start;
    return view.compare(bytes, at, at + count, from, from + count) === 0;
  }

  /** Copies `into.length` bytes from `offset` of the file. They are within a window. */
  copy(offset: number, into: Uint8Array): void {
    const { start, view } = this.#windowOf(offset);
    view.copy(into, 0, offset - start, offset - start + into.length);
  }

  /** Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const window of this.#windows) this.#unmap(window);
    this.#windows = [];
    closeSync(this.#fd);
  }

  #windowOf(offset: number): Window {
    const [last] = this.#windows;
    const start = offset - (offset % WINDOW_BYTES);
    if (last?.start === start) return last;
    const path = this.#path;
    if (!this.#open || offset >= this.#length) {
      throw new ShadowError('E_SHADOW_CLOSED', `${path} is not mapped at ${offset}`, { path });
    }
    const found = this.#windows.find((window) => window.start === start) ?? this.#map(start);
    const others = this.#windows.filter((window) => window !== found);
    for (const window of others.splice(WINDOWS_MAX - 1)) this.#unmap(window);
    this.#windows = [found, ...others];
    return found;
  }

  #map(start: number): Window {
    const length = this.#lengthOf(start);
    const address = BigInt(mmap(null, length, PROT_READ, MAP_SHARED, this.#fd, start));
    if (address !== MAP_FAILED) {
      return { start, address, view: Buffer.from(koffi.view(address, length)) };
    }
    const path = this.#path;
    throw new ShadowError('E_STORE_IO', `cannot map ${path}: errno ${koffi.errno()}`, { path });
  }

  #unmap({ start, address }: Window): void {
    munmap(address, this.#lengthOf(start));
  }

  #lengthOf(start: number): number {
    return Math.min(WINDOW_BYTES, this.#length - start);
  }
}
