/**
 * RAM of a sealed shadow, read page by page: from its own images, and from those of the chain of
 * its bases. The chain is resolved once, into one table a block:
 *
 *     page ──▶ link of the chain (0: the root), slot in its image; or zeros
 */
import { join } from 'node:path';
import { ShadowError } from './errors.ts';
import { ImageReader } from './image-reader.ts';
import type { ShadowBlock } from './manifest.ts';
import { eachChanged, ZEROS } from './page-index.ts';
import { chainOf, readBlock, requireBase, type SealedShadow } from './sealed-shadow.ts';

interface OpenBlock {
  /** Link that has each page, and the slot there. */
  readonly links: Uint16Array;
  readonly slots: Int32Array;
  /** Images of the links, the root's first. */
  readonly images: readonly ImageReader[];
}

/** Source of a sealed shadow's pages. Close it. */
export class SealedRam {
  readonly #pageSize: number;
  readonly #blocks: (OpenBlock | undefined)[] = [];
  readonly #images: ImageReader[] = [];

  /**
   * Opens the images of a shadow.
   * @param leave indices of blocks that will not be read: the page index of a large block takes
   * time
   * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_VERSION
   */
  static async open(shadow: SealedShadow, leave: ReadonlySet<number> = new Set()) {
    const ram = new SealedRam(shadow.manifest.pageSize);
    try {
      for (const [at, block] of shadow.manifest.blocks.entries()) {
        ram.#blocks.push(leave.has(at) ? undefined : await ram.#resolve(shadow, block));
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

  async #resolve(shadow: SealedShadow, block: ShadowBlock): Promise<OpenBlock> {
    const pages = Math.ceil(block.bytes / this.#pageSize);
    const links = new Uint16Array(pages);
    const slots = new Int32Array(pages).fill(ZEROS);
    const images: ImageReader[] = [];
    for (const [at, { owner, own }] of blocksOf(shadow, block).entries()) {
      const { index } = await readBlock(owner, own);
      images.push(new ImageReader(join(owner.directory, own.file), own.fileBytes, own.kind));
      this.#images.push(...images.slice(-1));
      eachChanged(index, (page, entry) => {
        links[page] = at;
        slots[page] = entry;
      });
    }
    return { links, slots, images };
  }

  /** Copies a page to `into[at]`. @returns false if it holds nothing but zeros */
  read(block: number, offset: number, into: Uint8Array, at: number): boolean {
    const { links, slots, images } = this.#block(block);
    const size = this.#pageSize;
    const page = offset / size;
    const slot = slots[page] ?? ZEROS;
    if (slot < 0) return false;
    return images[links[page] ?? 0]?.read(slot * size, into, at, size) ?? false;
  }

  /**
   * Lists the offsets of pages that are not as in the root of the chain; of all pages, in a full
   * shadow.
   */
  ownPages(block: number): number[] {
    const { links, images } = this.#block(block);
    const own: number[] = [];
    for (let page = 0; page < links.length; page++) {
      if (images.length === 1 || links[page] !== 0) own.push(page * this.#pageSize);
    }
    return own;
  }

  close(): void {
    for (const image of this.#images) image.close();
    this.#images.length = 0;
    this.#blocks.length = 0;
  }

  #block(index: number): OpenBlock {
    const block = this.#blocks[index];
    if (block === undefined) throw new ShadowError('E_SHADOW_LAYOUT', `block ${index} is not open`);
    return block;
  }
}

/** A block as one link of the chain has it. */
interface OwnedBlock {
  readonly owner: SealedShadow;
  readonly own: ShadowBlock;
}

/** Lists a block as the links of the chain have it, the full one first. */
function blocksOf(shadow: SealedShadow, block: ShadowBlock): OwnedBlock[] {
  const found: OwnedBlock[] = [];
  let own = block;
  for (const owner of chainOf(shadow)) {
    found.unshift({ owner, own });
    if (own.kind === 'full') return found;
    own = requireBase(owner, own);
  }
  return found;
}
