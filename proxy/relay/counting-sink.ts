/** A sink that counts pages and keeps none: it tells how far a migration has come. */
import type { PrecopySink, RamBlock } from '../stream/sink.ts';

export class CountingSink implements PrecopySink {
  machineType = '';
  pageSize = 0;
  /** RAM blocks, as the stream lists them; empty until it has. */
  layout: readonly RamBlock[] = [];
  totalPages = 0;
  /** Pages sent at least once. */
  seenPages = 0;
  ramEnded = false;
  returnPathOpened = false;
  #seen: readonly Uint8Array[] = [];

  machine(machineType: string, pageSize: number): void {
    this.machineType = machineType;
    this.pageSize = pageSize;
  }

  blocks(blocks: readonly RamBlock[]): void {
    this.layout = blocks;
    this.#seen = blocks.map(({ usedLength }) => new Uint8Array(usedLength / this.pageSize));
    this.totalPages = this.#seen.reduce((sum, { length }) => sum + length, 0);
  }

  page(block: number, offset: number): void {
    this.#mark(block, offset);
  }

  zero(block: number, offset: number): void {
    this.#mark(block, offset);
  }

  /** Leaves the page that XBZRLE is applied to as it is: content does not matter here. */
  load(): void {}

  returnPath(): void {
    this.returnPathOpened = true;
  }

  ping(): void {}

  ramEnd(): void {
    this.ramEnded = true;
  }

  complete(): void {}

  #mark(block: number, offset: number): void {
    const seen = this.#seen[block];
    const page = offset / this.pageSize;
    if (seen === undefined || seen[page] === 1) return;
    seen[page] = 1;
    this.seenPages++;
  }
}
