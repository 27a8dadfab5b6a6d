/**
 * The image of one RAMBlock: a file as long as the block, page n at n × page size.
 *
 * A bitmap remembers which pages were ever given content. A zero page that never had any costs
 * nothing, and sealing gives its reserved memory back.
 */
import { MappedFile } from './mapping.ts';

export class RamImage {
  readonly #file: MappedFile;
  readonly #pageSize: number;
  readonly #present: Uint8Array;

  /** @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO */
  static create(path: string, length: number, pageSize: number): RamImage {
    return new RamImage(MappedFile.create(path, length), pageSize);
  }

  private constructor(file: MappedFile, pageSize: number) {
    this.#file = file;
    this.#pageSize = pageSize;
    this.#present = new Uint8Array(Math.ceil(file.length / pageSize));
  }

  writePage(offset: number, chunk: Uint8Array, at: number): void {
    this.#present[offset / this.#pageSize] = 1;
    this.#file.write(offset, chunk, at, this.#pageSize);
  }

  zeroPage(offset: number): void {
    const page = offset / this.#pageSize;
    if (this.#present[page] === 0) return;
    this.#present[page] = 0;
    this.#file.fillZero(offset, this.#pageSize);
  }

  readPage(offset: number, into: Uint8Array, at = 0): void {
    this.#file.read(offset, into, at, this.#pageSize);
  }

  prefault(): Promise<void> {
    return this.#file.prefault();
  }

  /** Frees what zero pages had reserved. @returns bytes still stored */
  trim(): number {
    let stored = 0;
    let run = 0;
    for (let page = 0; page <= this.#present.length; page++) {
      const absent = this.#present[page] === 0;
      if (absent) run++;
      else {
        if (run > 0) this.#file.punch((page - run) * this.#pageSize, run * this.#pageSize);
        run = 0;
        if (page < this.#present.length) stored += this.#pageSize;
      }
    }
    return stored;
  }

  close(): void {
    this.#file.close();
  }
}
