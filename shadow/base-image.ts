/**
 * RAM block of the shadow that a delta is taken against: its pages are what new ones are compared
 * with.
 */
import { join } from 'node:path';
import { Mapping } from './mapping.ts';
import { entriesOf, ZEROS } from './page-index.ts';
import type { SealedBlock } from './sealed-shadow.ts';

export class BaseImage {
  readonly length: number;
  readonly #pageSize: number;
  readonly #entries: Int32Array;
  readonly #mapping: Mapping;

  /**
   * @param directory folder of the base
   * @throws ShadowError E_EPOCH_CORRUPT, E_STORE_IO
   */
  constructor(directory: string, { block, index }: SealedBlock) {
    this.length = block.bytes;
    this.#pageSize = index.pageSize;
    this.#entries = entriesOf(index);
    this.#mapping = new Mapping(join(directory, block.file), block.fileBytes);
  }

  /**
   * Tells whether the base has the page `chunk[at]` at this offset. It never has a page of zeros.
   */
  has(offset: number, chunk: Uint8Array, at: number): boolean {
    // A hole must not be touched: a read fault would fill it.
    return !this.isZero(offset) && this.#mapping.equals(offset, chunk, at, this.#pageSize);
  }

  /** Tells whether the page at this offset is zeros in the base. */
  isZero(offset: number): boolean {
    return this.#entries[offset / this.#pageSize] === ZEROS;
  }

  /** Copies a page of the base. */
  copy(offset: number, into: Uint8Array): void {
    if (this.isZero(offset)) into.fill(0);
    else this.#mapping.copy(offset, into);
  }

  close(): void {
    this.#mapping.close();
  }
}
