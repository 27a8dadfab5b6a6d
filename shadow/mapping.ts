/**
 * Files mapped into memory: the one place that owns mappings and their lifetime.
 *
 *     create ──▶ reserved (fallocate) ──▶ mapped ── close ──▶ unmapped
 *
 * No view of a mapping leaves this file: touching one after munmap would crash the process. Blocks are reserved before they are mapped, so a full tmpfs is an
 * error here and not a SIGBUS in mid-stream.
 *
 * A Buffer of Node 20 holds at most 4 GiB, hence segments.
 */
import { closeSync, constants, ftruncateSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { ShadowError } from './errors.ts';

const SEGMENT_BYTES = 2 ** 30;

// <sys/mman.h> and <linux/falloc.h>
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MADV_POPULATE_WRITE = 23;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

const libc = koffi.load('libc.so.6');
const mmap = libc.func(
  'void *mmap(void *a, size_t length, int prot, int flags, int fd, int64_t o)',
);
const munmap = libc.func('int munmap(void *address, size_t length)');
const madvise = libc.func('int madvise(void *address, size_t length, int advice)');
const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');

interface Segment {
  readonly address: bigint;
  readonly bytes: Buffer;
}

export class MappedFile {
  readonly path: string;
  /** Bytes. */
  readonly length: number;
  readonly #fd: number;
  #segments: Segment[] = [];
  #open = true;

  /**
   * Makes a file of `length` zero bytes, all of them reserved, and maps it.
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO
   */
  static create(path: string, length: number): MappedFile {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    const fd = openOrThrow(path, flags);
    try {
      ftruncateSync(fd, length);
      if (length > 0 && fallocate(fd, 0, 0, length) !== 0) {
        throw systemError('cannot reserve', path, length);
      }
      return new MappedFile(path, fd, length);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  private constructor(path: string, fd: number, length: number) {
    this.path = path;
    this.length = length;
    this.#fd = fd;
    for (let offset = 0; offset < length; offset += SEGMENT_BYTES) {
      const bytes = Math.min(SEGMENT_BYTES, length - offset);
      const address: bigint = mmap(null, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
      if (address === 0n || address === 0xffff_ffff_ffff_ffffn || address === -1n) {
        const error = systemError('cannot map', path, length);
        this.#unmap();
        throw error;
      }
      this.#segments.push({ address, bytes: Buffer.from(koffi.view(address, bytes)) });
    }
  }

  /**
   * Copies `length` bytes from `source[at]` to `offset`. The range must not cross a 1 GiB border,
   * which aligned pages never do.
   */
  write(offset: number, source: Uint8Array, at: number, length: number): void {
    this.#segment(offset, length).set(source.subarray(at, at + length), offset % SEGMENT_BYTES);
  }

  /** Copies `length` bytes at `offset` to `into[at]`. Same rule about borders as `write`. */
  read(offset: number, into: Uint8Array, at: number, length: number): void {
    const start = offset % SEGMENT_BYTES;
    into.set(this.#segment(offset, length).subarray(start, start + length), at);
  }

  fillZero(offset: number, length: number): void {
    const start = offset % SEGMENT_BYTES;
    this.#segment(offset, length).fill(0, start, start + length);
  }

  /**
   * Maps every page for writing (MADV_POPULATE_WRITE, Linux 5.14), off the main thread. Where the
   * kernel is older it refuses, and pages are touched when they are written.
   */
  async prefault(): Promise<void> {
    for (const { address, bytes } of this.#segments) {
      await new Promise<void>((resolve) => {
        madvise.async(address, bytes.length, MADV_POPULATE_WRITE, () => resolve());
      });
    }
  }

  /** Gives a range back to the system; it reads as zeros from now on. */
  punch(offset: number, length: number): void {
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (fallocate(this.#fd, mode, offset, length) !== 0) {
      throw systemError('cannot free a range of', this.path, length);
    }
  }

  /** Unmaps and closes; any later use throws E_SHADOW_CLOSED. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#unmap();
    closeSync(this.#fd);
  }

  #unmap(): void {
    for (const { address, bytes } of this.#segments) munmap(address, bytes.length);
    this.#segments = [];
  }

  #segment(offset: number, length: number): Buffer {
    const index = Math.floor(offset / SEGMENT_BYTES);
    const segment = this.#segments[index];
    if (segment === undefined) {
      const code = this.#open ? 'E_SHADOW_LAYOUT' : 'E_SHADOW_CLOSED';
      throw new ShadowError(code, `no byte ${offset} in ${this.path}`, { path: this.path });
    }
    if ((offset % SEGMENT_BYTES) + length > segment.bytes.length) {
      const message = `${length} bytes at ${offset} pass the end of a segment of ${this.path}`;
      throw new ShadowError('E_SHADOW_LAYOUT', message, { path: this.path });
    }
    return segment.bytes;
  }
}

function openOrThrow(path: string, flags: number): number {
  try {
    return openSync(path, flags, 0o600);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ShadowError('E_STORE_IO', `cannot open ${path}: ${code}`, { path, cause });
  }
}

function systemError(what: string, path: string, bytes: number): ShadowError {
  const errno = koffi.errno();
  const full = errno === koffi.os.errno.ENOSPC || errno === koffi.os.errno.ENOMEM;
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? errno;
  const message = `${what} ${path} (${bytes} bytes): ${name}`;
  return full
    ? new ShadowError('E_STORE_NO_ROOM', message, { path, missingBytes: bytes })
    : new ShadowError('E_STORE_IO', message, { path });
}
