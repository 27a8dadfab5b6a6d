/** Writes the decoder's pages into a staging shadow, and counts them to steer the round. */
import type { RamImage, StagingShadow } from '../../shadow/index.ts';
import { UmbraError } from '../failure/failure.ts';
import type { PrecopySink, RamBlock } from '../stream/sink.ts';

export interface StreamResult {
  readonly configuration: Uint8Array;
  readonly deviceState: Uint8Array;
  readonly vmdesc: string | undefined;
}

export interface SinkEvents {
  /** OPEN_RETURN_PATH: QEMU will wait for our vote. */
  readonly onReturnPath: () => void;
  readonly onPing: (value: number) => void;
  readonly onComplete: (result: StreamResult) => void;
}

export class ShadowSink implements PrecopySink {
  machineType = '';
  /** Pages of all blocks; known once the stream has listed them. */
  totalPages = 0;
  /** Pages received at least once. */
  seenPages = 0;
  ramEnded = false;
  /** RAM blocks in the stream's order; none before the stream has listed them. */
  streamedBlocks: readonly RamBlock[] = [];
  readonly #shadow: StagingShadow;
  readonly #events: SinkEvents;
  #images: readonly RamImage[] = [];
  /** A byte a page of each RAM block: not 0 once the page was received. */
  #seen: readonly Uint8Array[] = [];
  #chunk: Uint8Array | undefined;
  #borrower: RamImage | undefined;

  constructor(shadow: StagingShadow, events: SinkEvents) {
    this.#shadow = shadow;
    this.#events = events;
  }

  machine(machineType: string, pageSize: number): void {
    this.machineType = machineType;
    if (pageSize === this.#shadow.pageSize) return;
    const message = `the stream has pages of ${pageSize} bytes, not ${this.#shadow.pageSize}`;
    throw new UmbraError({ code: 'E_SHADOW_LAYOUT', message, where: 'configuration' });
  }

  blocks(blocks: readonly RamBlock[]): void {
    this.#images = this.#shadow.match(blocks);
    this.streamedBlocks = blocks;
    const { pageSize } = this.#shadow;
    this.#seen = blocks.map(({ usedLength }) => new Uint8Array(usedLength / pageSize));
    this.totalPages = this.#seen.reduce((sum, pages) => sum + pages.length, 0);
  }

  /** Begins a chunk. Its pages may be borrowed until `end`; those of any other array may not. */
  begin(chunk: Uint8Array): void {
    this.#chunk = chunk;
  }

  /** Writes what was borrowed. */
  end(): void {
    this.#chunk = undefined;
    this.#borrower?.flush();
    this.#borrower = undefined;
  }

  page(block: number, offset: number, chunk: Uint8Array, at: number): void {
    const image = this.#image(block);
    if (this.#borrower !== image) this.#borrower?.flush();
    this.#borrower = image;
    image.writePage(offset, chunk, at);
    // The decoder's own buffers (a page over a chunk border, an unpacked page) are reused at once.
    if (chunk !== this.#chunk) image.flush();
    this.#mark(block, offset);
  }

  zero(block: number, offset: number): void {
    this.#image(block).zeroPage(offset);
    this.#mark(block, offset);
  }

  load(block: number, offset: number, into: Uint8Array): void {
    this.#image(block).readPages(offset, into);
  }

  returnPath(): void {
    this.#events.onReturnPath();
  }

  ping(value: number): void {
    this.#events.onPing(value);
  }

  ramEnd(): void {
    this.ramEnded = true;
  }

  complete(result: StreamResult): void {
    this.#events.onComplete(result);
  }

  #mark(block: number, offset: number): void {
    const pages = this.#seen[block];
    const page = offset / this.#shadow.pageSize;
    if (pages === undefined || pages[page] !== 0) return;
    pages[page] = 1;
    this.seenPages++;
  }

  /** Returns the image of a block. The decoder has checked block and offset against its list. */
  #image(block: number): RamImage {
    const image = this.#images[block];
    if (image === undefined) throw new RangeError(`no RAM block ${block}`);
    return image;
  }
}

/** Memory that was streamed, in the order of the stream's blocks. */
export interface StreamedMemory {
  readonly streamedBlocks: readonly RamBlock[];
  /** Copies whole pages from there on, as many as fit. */
  load(block: number, offset: number, into: Uint8Array): void;
  page(block: number, offset: number, chunk: Uint8Array, at: number): void;
  zero(block: number, offset: number): void;
}
