/** One RAMBlock of the shadow a delta is taken against: what its pages are compared with. */
import { join } from 'node:path';
import { Mapping } from './mapping.ts';
import { ZEROS } from './page-index.ts';
import type { SealedBlock } from './sealed.ts';

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
    if (this.#entries[offset / this.#pageSize] === ZEROS) return false; // a hole, not to be touched
    return this.#mapping.equals(offset, chunk, at, this.#pageSize);
  }

  /** Copies a page that the base holds. */
  copy(offset: number, into: Uint8Array): void {
    this.#mapping.copy(offset, into);
  }

  close(): void {
    this.#mapping.close();
  }
}
