/**
 * Sealed files in memory, to be compared with at memory speed. The only place that maps anything.
 *
 *     file     |   window   |   window   |   window   | …      32 MiB each, the last is shorter
 *                    ▲             ▲
 *                  two of them are resident, the ones that were used last; others are let go (madvise)
 *
 * A stream goes through memory in order, so a process that compares with gigabytes does not hold them. A
 * page beyond the file's end kills whoever reads it (SIGBUS), and so does a view that outlives its
 * mapping: so views never leave this file, only sealed files are mapped, and their length is
 * checked first. A hole of a tmpfs file is filled when it is read through a mapping: ask for pages it
 * holds.
 *
 * Views are made once, each as long as one may be: they cost the garbage collector as if they held what
 * they show (a view a window kept it busy for most of a round), and V8 has none of more than 4 GiB.
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
/** What is populated at once, on another thread. */
const POPULATED_BYTES = 256 * 2 ** 20;
/** A multiple of every page size, so that no page lies in two views. */
const VIEW_BYTES = 2 ** 30;

export class Mapping {
  readonly #path: string;
  readonly #length: number;
  readonly #address: bigint;
  #views: readonly Buffer[];
  /** Starts of the windows that are resident; used last comes first. */
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

  /** Are `count` bytes at `offset` of the file those at `bytes[at]`? */
  equals(offset: number, bytes: Uint8Array, at: number, count: number): boolean {
    const { view, from } = this.#viewAt(offset, count);
    return view.compare(bytes, at, at + count, from, from + count) === 0;
  }

  /** Copies `into.length` bytes from `offset` of the file. */
  copy(offset: number, into: Uint8Array): void {
    const { view, from } = this.#viewAt(offset, into.length);
    view.copy(into, 0, from, from + into.length);
  }

  /** Idempotent. */
  close(): void {
    if (this.#views.length === 0) return;
    this.#views = [];
    unmap(this.#address, this.#length);
  }

  /** What shows these bytes, and where in it they begin. */
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
 * Has a file's holes be memory, as reading them through a mapping would, but without the SIGBUS that ends
 * whoever reads when there is none. Its content, size and times stay as they are.
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
