/**
 * Mappings of sealed files, to compare pages with them at memory speed. No other file maps
 * anything.
 *
 *     file     |   window   |   window   |   window   | …      32 MiB each, the last is shorter
 *                    ▲             ▲
 *                  the two windows used last stay resident, the others are dropped (madvise)
 *
 * A stream goes through memory in order, so windows keep a process that compares gigabytes from
 * holding them all. To read a page beyond the end of a mapped file kills the process (SIGBUS), and
 * so does a view that is used after its mapping has ended. Views therefore never leave this file,
 * only sealed files are mapped, and their length is checked first. Reading a hole of a tmpfs file
 * through a mapping fills it: callers ask only for pages that the file holds.
 *
 * Views are made once, each as long as one may be. They cost the garbage collector as if they held
 * what they show (one view a window kept it busy for most of a round), and V8 has none of more than
 * 4 GiB.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { ShadowError } from './errors.ts';
import {
  canPopulate,
  dropResident,
  errnoName,
  mapShared,
  populateRange,
  unmap,
  viewOf,
} from './libc.ts';

const WINDOW_BYTES = 32 * 2 ** 20;
/** Bytes populated by one call, on another thread. */
const POPULATED_BYTES = 256 * 2 ** 20;
/** A multiple of every page size, so that no page lies in two views. */
const VIEW_BYTES = 2 ** 30;

export class Mapping {
  readonly #path: string;
  readonly #length: number;
  readonly #address: bigint;
  #views: readonly Buffer[];
  /** Starts of the resident windows; the one used last comes first. */
  #windows: readonly number[] = [];

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
      this.#address = mapFile(fd, length, path);
      this.#views = viewsOf(this.#address, length);
    } finally {
      closeSync(fd);
    }
  }

  /** Tells whether `count` bytes at `offset` of the file equal those at `bytes[at]`. */
  equals(offset: number, bytes: Uint8Array, at: number, count: number): boolean {
    const { view, from } = this.#viewAt(offset, count);
    return view.compare(bytes, at, at + count, from, from + count) === 0;
  }

  /** Copies `into.length` bytes from `offset` of the file. */
  copy(offset: number, into: Uint8Array): void {
    const { view, from } = this.#viewAt(offset, into.length);
    view.copy(into, 0, from, from + into.length);
  }

  /** Ends the mapping. Idempotent. */
  close(): void {
    if (this.#views.length === 0) return;
    this.#views = [];
    unmap(this.#address, this.#length);
  }

  /** Finds the view that shows these bytes, and where in it they begin. */
  #viewAt(offset: number, count: number): { readonly view: Buffer; readonly from: number } {
    const view = this.#views[Math.floor(offset / VIEW_BYTES)];
    const from = offset % VIEW_BYTES;
    if (view === undefined || from + count > view.length) {
      const path = this.#path;
      throw new ShadowError('E_SHADOW_CLOSED', `${path} is not mapped at ${offset}`, { path });
    }
    const start = offset - (offset % WINDOW_BYTES);
    if (this.#windows[0] !== start) this.#moveTo(start);
    return { view, from };
  }

  #moveTo(start: number): void {
    const [last, ...others] = this.#windows.filter((window) => window !== start);
    this.#windows = last === undefined ? [start] : [start, last];
    for (const window of others) {
      const bytes = Math.min(WINDOW_BYTES, this.#length - window);
      dropResident(this.#address + BigInt(window), bytes);
    }
  }
}

/**
 * Fills a file's holes with memory, as reading them through a mapping would, but without the SIGBUS
 * that ends the reader if there is no memory. Content, size and times of the file stay as they are.
 * @returns false if this kernel cannot (before Linux 5.14): nothing is done
 * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO
 */
export async function populate(path: string): Promise<boolean> {
  const { address, length } = mapAll(path);
  try {
    if (!canPopulate(address)) return false;
    for (let at = 0; at < length; at += POPULATED_BYTES) {
      const bytes = Math.min(POPULATED_BYTES, length - at);
      // For want of memory: nothing else can fail here.
      if (await populateRange(address + BigInt(at), bytes)) continue;
      const message = `there is no memory for the holes of ${path}`;
      throw new ShadowError('E_STORE_NO_ROOM', message, { path });
    }
    return true;
  } finally {
    unmap(address, length);
  }
}

function mapAll(path: string): { readonly address: bigint; readonly length: number } {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw new ShadowError('E_STORE_IO', `cannot open ${path}: ${cause}`, { path, cause });
  }
  try {
    const length = fstatSync(fd).size;
    return { address: mapFile(fd, length, path), length };
  } finally {
    closeSync(fd);
  }
}

/** @throws ShadowError E_STORE_IO */
function mapFile(fd: number, length: number, path: string): bigint {
  const mapped = mapShared(fd, length);
  if ('address' in mapped) return mapped.address;
  throw new ShadowError('E_STORE_IO', `cannot map ${path}: ${errnoName(mapped.errno)}`, { path });
}

function viewsOf(address: bigint, length: number): Buffer[] {
  const views: Buffer[] = [];
  for (let at = 0; at < length; at += VIEW_BYTES) {
    const bytes = Math.min(VIEW_BYTES, length - at);
    views.push(viewOf(address + BigInt(at), bytes));
  }
  return views;
}
