/** One RAMBlock of the shadow a delta is taken against: what its pages are compared with. */
import { join } from 'node:path';
import { Mapping } from './mapping.ts';
import { ZEROS } from './page-index.ts';
import type { SealedBlock } from './sealed-shadow.ts';

export class BaseImage {
  readonly length: number;
  readonly #pageSize: number;
  readonly #entries: Int32Array;
  readonly #mapping: Mapping;

  /** @throws ShadowError E_EPOCH_CORRUPT, E_STORE_IO */
  constructor(directory: string, { block, index }: SealedBlock) {
    this.length = block.bytes;
    this.#pageSize = index.pageSize;
    this.#entries = index.entries;
    this.#mapping = new Mapping(join(directory, block.file), block.fileBytes);
  }

  /** Is the page at `chunk[at]` what the base has at this offset? A page of zeros never is. */
  has(offset: number, chunk: Uint8Array, at: number): boolean {
    // A hole is not to be touched.
    return !this.isZero(offset) && this.#mapping.equals(offset, chunk, at, this.#pageSize);
  }

  /** Is the page zeros in the base? */
  isZero(offset: number): boolean {
    return this.#entries[offset / this.#pageSize] === ZEROS;
  }

  /** Copies a page as the base has it. */
  copy(offset: number, into: Uint8Array): void {
    if (this.isZero(offset)) into.fill(0);
    else this.#mapping.copy(offset, into);
  }

  close(): void {
    this.#mapping.close();
  }
}
