/**
 * A member's shadow while it is being written. It belongs to a round, and nothing can restore it
 * before an epoch names it.
 *
 *     reserve ──▶ OPEN ──seal──▶ SEALED (never written again, shadow.json last)
 *                  └──discard──▶ gone
 *
 *     FOLDER/ram-0.img …   one a RAMBlock, in the order of the block list
 *     FOLDER/configuration.bin, device-state.bin, vmdesc.json
 *     FOLDER/shadow.json
 */
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestFile } from './digest.ts';
import { ShadowError } from './errors.ts';
import {
  encodeManifest,
  FORMAT_VERSION,
  type Identity,
  type ShadowFile,
  type ShadowManifest,
  sha256Of,
} from './manifest.ts';
import { RamImage } from './ram-image.ts';
import { takeWitness } from './witness.ts';

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
}

export interface SealedShadow {
  readonly manifest: ShadowManifest;
  /** SHA-256 of shadow.json, by which an epoch names this shadow. */
  readonly sha256: string;
  /** Memory it occupies, bytes. */
  readonly storedBytes: number;
}

export class StagingShadow {
  readonly directory: string;
  readonly pageSize: number;
  readonly #member: string;
  readonly #round: string;
  readonly #layout: readonly BlockLayout[];
  readonly #images: RamImage[] = [];
  /** Indices into the layout, in the stream's order, of the blocks the stream carries. */
  #streamed: readonly number[] | undefined;
  #open = true;

  /**
   * Makes the folder and reserves every byte of every block.
   * @param spares folder of images that may be used again
   * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO; nothing is left behind
   */
  static async reserve(
    directory: string,
    owner: { readonly member: string; readonly round: string },
    layout: readonly BlockLayout[],
    pageSize: number,
    spares?: string,
  ): Promise<StagingShadow> {
    const shadow = new StagingShadow(directory, owner, layout, pageSize);
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      for (const [index, { length }] of layout.entries()) {
        const path = join(directory, ramFileName(index));
        shadow.#images.push(await RamImage.create(path, length, pageSize, spares));
      }
      return shadow;
    } catch (error) {
      await shadow.discard().catch(() => {}); // the first error is the one to tell
      if (error instanceof ShadowError) throw error;
      const message = `cannot make ${directory}: ${(error as Error).message}`;
      throw new ShadowError('E_STORE_IO', message, { path: directory, cause: error });
    }
  }

  private constructor(
    directory: string,
    owner: { readonly member: string; readonly round: string },
    layout: readonly BlockLayout[],
    pageSize: number,
  ) {
    this.directory = directory;
    this.pageSize = pageSize;
    this.#member = owner.member;
    this.#round = owner.round;
    this.#layout = layout;
  }

  /**
   * Matches the stream's block list with what was reserved. A reserved block the stream does not
   * carry (QEMU does not migrate it) is dropped.
   * @returns the images in the stream's order
   * @throws ShadowError E_SHADOW_LAYOUT when names or sizes disagree
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
    return this.#streamed.map((index) => this.#image(index));
  }

  /** Frees zero pages, takes the digests, and writes shadow.json last. */
  async seal(input: SealInput): Promise<SealedShadow> {
    if (!this.#open) throw new ShadowError('E_SHADOW_CLOSED', 'sealed or discarded already');
    this.#open = false;
    const blocks: ShadowManifest['blocks'] = [];
    for (const index of this.#images.keys()) {
      if (this.#streamed?.includes(index) === false) await this.#drop(index);
    }
    for (const index of this.#streamed ?? []) {
      const { idstr, length } = this.#layout[index] ?? { idstr: '', length: 0 };
      const image = this.#image(index);
      const storedBytes = await image.trim();
      image.close();
      const sha256 = await digestFile(join(this.directory, ramFileName(index)), length);
      const frozen = await this.#describe(ramFileName(index), length, sha256);
      blocks.push({ idstr, storedBytes, ...frozen });
    }
    const manifest: ShadowManifest = {
      format: 'umbra-shadow',
      version: FORMAT_VERSION,
      member: this.#member,
      round: this.#round,
      identity: input.identity,
      pageSize: this.pageSize,
      blocks,
      configuration: await this.#write('configuration.bin', input.configuration),
      deviceState: await this.#write('device-state.bin', input.deviceState),
      ...(input.vmdesc !== undefined && {
        vmdesc: await this.#write('vmdesc.json', Buffer.from(input.vmdesc)),
      }),
    };
    const text = encodeManifest(manifest);
    await writeSynced(join(this.directory, 'shadow.json'), text);
    const storedBytes = blocks.reduce((sum, block) => sum + block.storedBytes, 0);
    return { manifest, sha256: sha256Of(text), storedBytes };
  }

  /** Removes everything. Idempotent, and allowed in any state. */
  async discard(): Promise<void> {
    this.#open = false;
    this.#closeImages();
    await rm(this.directory, { recursive: true, force: true });
  }

  #image(index: number): RamImage {
    const image = this.#images[index];
    if (image === undefined) throw new ShadowError('E_SHADOW_LAYOUT', `no block ${index}`);
    return image;
  }

  async #drop(index: number): Promise<void> {
    this.#image(index).close();
    await rm(join(this.directory, ramFileName(index)));
  }

  #closeImages(): void {
    for (const image of this.#images) image.close();
  }

  async #write(file: string, data: Uint8Array): Promise<ShadowFile> {
    await writeFile(join(this.directory, file), data, { mode: 0o600, flag: 'wx' });
    return this.#describe(file, data.length, sha256Of(data));
  }

  async #describe(file: string, bytes: number, sha256: string): Promise<ShadowFile> {
    const path = join(this.directory, file);
    return { file, bytes, sha256, witness: await takeWitness(path) };
  }
}

/** Writes a file and makes sure it has reached its device before anything refers to it. */
export async function writeSynced(path: string, text: string): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function ramFileName(index: number): string {
  return `ram-${index}.img`;
}
