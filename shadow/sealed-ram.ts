/** RAM of a sealed shadow, read page by page: from its own images, and from those of its base. */
import { join } from 'node:path';
import { ShadowError } from './errors.ts';
import { ImageReader } from './image-reader.ts';
import type { ShadowBlock } from './manifest.ts';
import { AS_BASE } from './page-index.ts';
import { readBlock, requireBase, type SealedShadow } from './sealed-shadow.ts';

interface OpenBlock {
  readonly entries: Int32Array;
  readonly image: ImageReader;
  /** Image of the base's block, if this one is a delta. */
  readonly base: ImageReader | undefined;
}

/** Source of a sealed shadow's pages. Close it. */
export class SealedRam {
  readonly #pageSize: number;
  readonly #blocks: (OpenBlock | undefined)[] = [];

  /**
   * Opens the images of a shadow.
   * @param leave indices of blocks that will not be read: the page index of a large block takes
   * time
   * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_VERSION
   */
  static async open(shadow: SealedShadow, leave: ReadonlySet<number> = new Set()) {
    const { directory, manifest } = shadow;
    const ram = new SealedRam(manifest.pageSize);
    try {
      for (const [at, block] of manifest.blocks.entries()) {
        if (leave.has(at)) {
          ram.#blocks.push(undefined);
          continue;
        }
        const { index } = await readBlock(shadow, block);
        const image = new ImageReader(join(directory, block.file), block.fileBytes, block.kind);
        const open = { entries: index.entries, image, base: undefined };
        ram.#blocks[at] = open;
        if (block.kind === 'delta')
          ram.#blocks[at] = { ...open, base: readerOfBase(shadow, block) };
      }
      return ram;
    } catch (error) {
      ram.close();
      throw error;
    }
  }

  private constructor(pageSize: number) {
    this.#pageSize = pageSize;
  }

  /** Copies a page to `into[at]`. @returns false if it holds nothing but zeros */
  read(block: number, offset: number, into: Uint8Array, at: number): boolean {
    const { entries, image, base } = this.#block(block);
    const size = this.#pageSize;
    const entry = entries[offset / size] ?? AS_BASE;
    if (entry >= 0) return image.read(entry * size, into, at, size);
    return entry === AS_BASE && (base?.read(offset, into, at, size) ?? false);
  }

  /** Lists the offsets of pages that are not as in the base; of all pages, in a full shadow. */
  ownPages(block: number): number[] {
    const { entries } = this.#block(block);
    const own: number[] = [];
    for (let page = 0; page < entries.length; page++) {
      if (entries[page] !== AS_BASE) own.push(page * this.#pageSize);
    }
    return own;
  }

  close(): void {
    for (const block of this.#blocks) {
      block?.image.close();
      block?.base?.close();
    }
    this.#blocks.length = 0;
  }

  #block(index: number): OpenBlock {
    const block = this.#blocks[index];
    if (block === undefined) throw new ShadowError('E_SHADOW_LAYOUT', `block ${index} is not open`);
    return block;
  }
}

function readerOfBase(shadow: SealedShadow, block: ShadowBlock): ImageReader {
  const { file, fileBytes, kind } = requireBase(shadow, block);
  return new ImageReader(join(shadow.base?.directory ?? '', file), fileBytes, kind);
}
