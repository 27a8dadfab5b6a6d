/**
 * A member's shadow, while it is written. It belongs to a round, and nothing can restore it before
 * an epoch names it.
 *
 *     reserve ──▶ OPEN ──seal──▶ SEALED (no longer written; shadow.json comes last)
 *                  └──discard──▶ gone
 *
 *     FOLDER/ram-0.img …   image of each RAM block, in the block list's order; or ram-0.delta
 *     FOLDER/ram-0.idx …   its page index: where its pages are, and checksums
 *     FOLDER/configuration.bin, device-state.bin, vmdesc.json
 *     FOLDER/shadow.json
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Allowance } from './allowance.ts';
import { BaseImage } from './base-image.ts';
import { sha256Of, wrap } from './envelope.ts';
import { ShadowError } from './errors.ts';
import { takeFileStamp } from './file-stamp.ts';
import { LinkImage, type RunImage } from './link-image.ts';
import { type Identity, SHADOW_VERSION, type ShadowFile, type ShadowManifest } from './manifest.ts';
import { type ImageKind, imageName, indexName, SHADOW_FILE } from './names.ts';
import { encodeIndex } from './page-index.ts';
import { RamImage } from './ram-image.ts';
import { type OneShadow, readBlocks, type SealedShadow } from './sealed-shadow.ts';
import { writeSynced } from './synced.ts';

export interface BlockLayout {
  readonly idstr: string;
  /** Bytes, a multiple of the page size. */
  readonly length: number;
}

export interface SealInput {
  readonly identity: Identity;
  readonly configuration: Uint8Array;
  readonly deviceState: Uint8Array;
  readonly vmdesc: string | undefined;
  /** Round in which the VM was captured, if it is another than the shadow's. */
  readonly cut?: string | undefined;
}

/** Folder of a shadow, and the member and round it belongs to. */
export interface StagingLocation {
  /** STORE/shadows/ROUND/MEMBER; it does not exist yet. */
  readonly directory: string;
  readonly member: string;
  readonly round: string;
  /** Folder of images that may be written again. */
  readonly spares?: string | undefined;
}

/** Memory that a shadow may take. */
export interface StagingOptions {
  /** Base: only what differs from it is stored. */
  readonly base?: SealedShadow | undefined;
  /** Base of a link: only what was written since is stored, and nothing is compared. */
  readonly link?: OneShadow | undefined;
  /** Bytes reserved from the start; unused ones are given back at the seal. */
  readonly reservedBytes: number;
  /**
   * Bytes that it may take beyond those, as pages come; and bytes that must stay free on the host.
   */
  readonly moreBytes: number;
  readonly headroomBytes: number;
}

export interface Sealed {
  readonly manifest: ShadowManifest;
  /** SHA-256 of shadow.json, by which an epoch names this shadow. */
  readonly sha256: string;
  /** Memory it occupies, bytes. */
  readonly storedBytes: number;
}

export class StagingShadow {
  readonly directory: string;
  readonly pageSize: number;
  readonly #location: StagingLocation;
  readonly #base: OneShadow | undefined;
  readonly #layout: readonly BlockLayout[];
  readonly #images: (RamImage | LinkImage)[] = [];
  readonly #kinds: ImageKind[] = [];
  readonly #baseImages: BaseImage[] = [];
  /** Indices into the layout of the blocks that the stream carries, in the stream's order. */
  #streamed: readonly number[] | undefined;
  #open = true;

  /**
   * Makes the folder, and the images with the memory they are to have from the start.
   * @param options undefined: every byte of every block is reserved
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO, E_EPOCH_CORRUPT; nothing is left behind
   */
  static async reserve(
    location: StagingLocation,
    layout: readonly BlockLayout[],
    pageSize: number,
    options?: StagingOptions,
  ): Promise<StagingShadow> {
    const { directory } = location;
    const shadow = new StagingShadow(location, layout, pageSize, options?.link ?? options?.base);
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      if (options?.link === undefined) await shadow.#makeImages(options);
      else shadow.#makeLinks(options.link, options);
      return shadow;
    } catch (error) {
      await shadow.discard().catch(() => {}); // the first error is the one to report
      if (error instanceof ShadowError) throw error;
      const message = `cannot make ${directory}: ${(error as Error).message}`;
      throw new ShadowError('E_STORE_IO', message, { path: directory, cause: error });
    }
  }

  private constructor(
    location: StagingLocation,
    layout: readonly BlockLayout[],
    pageSize: number,
    base: OneShadow | undefined,
  ) {
    this.directory = location.directory;
    this.pageSize = pageSize;
    this.#location = location;
    this.#layout = layout;
    this.#base = base;
  }

  /**
   * Makes the images. A block that the base does not have, or has with another length, is stored in
   * full.
   */
  async #makeImages(options: StagingOptions | undefined): Promise<void> {
    const { directory, pageSize } = this;
    const { spares } = this.#location;
    const base = options?.base;
    if (base?.base !== undefined) {
      throw new ShadowError('E_SHADOW_LAYOUT', `${base.directory} is a delta: no base`);
    }
    const based = base === undefined ? [] : await readBlocks(base);
    const allowance = options && new Allowance(directory, options.moreBytes, options.headroomBytes);
    const total = this.#layout.reduce((sum, { length }) => sum + length, 0);
    for (const [index, { idstr, length }] of this.#layout.entries()) {
      const found = based.find(({ block }) => block.idstr === idstr && block.bytes === length);
      const kind = found === undefined ? 'full' : 'delta';
      const path = join(directory, imageName(index, kind));
      this.#kinds.push(kind);
      const image = found && base && new BaseImage(base.directory, found);
      if (image !== undefined) this.#baseImages.push(image);
      const share = options && {
        reservedBytes: Math.floor((options.reservedBytes * length) / total),
      };
      const how = { spares, base: image, allowance, ...share };
      this.#images.push(await RamImage.create(path, length, pageSize, how));
    }
  }

  /** Makes the images of a link: each block's base must have it, with the same length. */
  #makeLinks(link: OneShadow, options: StagingOptions): void {
    const { directory, pageSize } = this;
    const allowance = new Allowance(directory, options.moreBytes, options.headroomBytes);
    for (const [index, { idstr, length }] of this.#layout.entries()) {
      const isThere = link.manifest.blocks.some((block) => {
        return block.idstr === idstr && block.bytes === length;
      });
      if (!isThere) {
        const message = `${link.directory} has no RAM block ${idstr} of ${length} bytes`;
        throw new ShadowError('E_SHADOW_LAYOUT', message, { path: directory });
      }
      this.#kinds.push('delta');
      const path = join(directory, imageName(index, 'delta'));
      this.#images.push(LinkImage.create(path, length, pageSize, allowance));
    }
    this.#streamed = [...this.#layout.keys()];
  }

  /** Returns the images to be written in runs, with the names of their blocks. */
  runImages(): { readonly idstr: string; readonly image: RunImage }[] {
    return this.#layout.map(({ idstr }, index) => ({ idstr, image: this.#image(index) }));
  }

  /**
   * Matches the stream's block list with the reserved blocks. A reserved block that the stream does
   * not carry (QEMU does not migrate it) is dropped.
   * @returns the images, in the stream's order
   * @throws ShadowError E_SHADOW_LAYOUT if names or sizes disagree
   */
  match(blocks: readonly { readonly idstr: string; readonly usedLength: number }[]): RamImage[] {
    const disagree = (why: string) =>
      new ShadowError('E_SHADOW_LAYOUT', `RAM blocks disagree with those reserved: ${why}`, {
        path: this.directory,
      });
    this.#streamed = blocks.map(({ idstr, usedLength }) => {
      const index = this.#layout.findIndex((block) => block.idstr === idstr);
      const reserved = this.#layout[index];
      if (reserved === undefined) throw disagree(`${idstr} is new`);
      if (reserved.length !== usedLength) {
        throw disagree(`${idstr} has ${usedLength} bytes instead of ${reserved.length}`);
      }
      return index;
    });
    return this.#streamed.map((index) => {
      const image = this.#image(index);
      if (image instanceof RamImage) return image;
      throw new ShadowError('E_SHADOW_LAYOUT', 'a link takes no stream', { path: this.directory });
    });
  }

  /**
   * Seals the shadow: frees memory that holds no page, writes the page indices and, last,
   * shadow.json.
   * @throws ShadowError E_SHADOW_CLOSED, E_STORE_NO_ROOM, E_STORE_IO
   */
  async seal(input: SealInput): Promise<Sealed> {
    if (!this.#open) throw new ShadowError('E_SHADOW_CLOSED', 'sealed or discarded already');
    this.#open = false;
    const blocks: ShadowManifest['blocks'] = [];
    for (const index of this.#images.keys()) {
      if (this.#streamed?.includes(index) === false) await this.#drop(index);
    }
    for (const index of this.#streamed ?? []) blocks.push(await this.#sealImage(index));
    this.#closeImages();
    const base = this.#base;
    const manifest: ShadowManifest = {
      format: 'umbra-shadow',
      version: SHADOW_VERSION,
      member: this.#location.member,
      round: this.#location.round,
      identity: input.identity,
      pageSize: this.pageSize,
      ...(input.cut !== undefined && input.cut !== this.#location.round && { cut: input.cut }),
      ...(base !== undefined &&
        blocks.some(({ kind }) => kind === 'delta') && {
          base: { round: base.manifest.round, shadow: base.sha256 },
        }),
      blocks,
      configuration: await this.#write('configuration.bin', input.configuration),
      deviceState: await this.#write('device-state.bin', input.deviceState),
      ...(input.vmdesc !== undefined && {
        vmdesc: await this.#write('vmdesc.json', Buffer.from(input.vmdesc)),
      }),
    };
    const text = wrap(manifest);
    await writeSynced(join(this.directory, SHADOW_FILE), text);
    const storedBytes = blocks.reduce((sum, block) => sum + block.storedBytes, 0);
    return { manifest, sha256: sha256Of(text), storedBytes };
  }

  async #sealImage(at: number): Promise<ShadowManifest['blocks'][number]> {
    const { idstr, length } = this.#layout[at] ?? { idstr: '', length: 0 };
    const kind = this.#kinds[at] ?? 'full';
    const file = imageName(at, kind);
    const image = this.#image(at);
    const { index, storedBytes } = await image.seal();
    image.close();
    return {
      idstr,
      bytes: length,
      kind,
      file,
      fileBytes: index.slots * index.pageSize,
      witness: takeFileStamp(join(this.directory, file)),
      storedBytes,
      index: await this.#write(indexName(at), encodeIndex(index)),
    };
  }

  /** Removes everything. Idempotent, and allowed in any state. */
  async discard(): Promise<void> {
    this.#open = false;
    this.#closeImages();
    await rm(this.directory, { recursive: true, force: true });
  }

  #image(index: number): RamImage | LinkImage {
    const image = this.#images[index];
    if (image === undefined) throw new ShadowError('E_SHADOW_LAYOUT', `no block ${index}`);
    return image;
  }

  async #drop(index: number): Promise<void> {
    this.#image(index).close();
    await rm(join(this.directory, imageName(index, this.#kinds[index] ?? 'full')));
  }

  #closeImages(): void {
    for (const image of this.#images) image.close();
    for (const base of this.#baseImages) base.close();
  }

  async #write(file: string, data: Uint8Array): Promise<ShadowFile> {
    await writeFile(join(this.directory, file), data, { mode: 0o600, flag: 'wx' });
    const witness = takeFileStamp(join(this.directory, file));
    return { file, bytes: data.length, sha256: sha256Of(data), witness };
  }
}
