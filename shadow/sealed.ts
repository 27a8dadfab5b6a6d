/**
 * A sealed shadow, opened to be verified, restored, or compared with. It is never written to again.
 *
 *     STORE/shadows/ROUND/MEMBER        the shadow
 *     STORE/shadows/BASE ROUND/MEMBER   what its deltas are taken against, if it has any
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { sha256Of, unwrap } from './envelope.ts';
import { ShadowError } from './errors.ts';
import { type FileStamp, fileStampsAgree, takeFileStamp } from './file-stamp.ts';
import { ImageReader, verifyImage } from './image-reader.ts';
import {
  type BaseName,
  SHADOW_FILE,
  SHADOW_FORMAT,
  type ShadowBlock,
  type ShadowFile,
  type ShadowManifest,
} from './manifest.ts';
import { readManifestInMemory } from './manifest-file.ts';
import { AS_BASE, decodeIndex, type PageIndex } from './page-index.ts';
import { retakenFileStamps } from './retaken-stamps.ts';

/** `changed` reads only files the kernel reports as touched since the seal; `all` reads all. */
export type VerifyMode = 'changed' | 'all';

/** A shadow, with what it refers to. */
export interface SealedShadow {
  readonly directory: string;
  readonly manifest: ShadowManifest;
  /** SHA-256 of its shadow.json. */
  readonly sha256: string;
  readonly base: SealedShadow | undefined;
}

/** An image and where its pages are. */
export interface SealedBlock {
  readonly block: ShadowBlock;
  readonly index: PageIndex;
}

/**
 * Reads a shadow's manifest, and its base's, and holds them against the digests they are named by.
 * @param sha256 as its epoch names it
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION
 */
export async function openShadow(directory: string, sha256?: string): Promise<SealedShadow> {
  const { path, manifest, found } = readManifest(directory, sha256);
  const { base } = manifest;
  const isDelta = manifest.blocks.some(({ kind }) => kind === 'delta');
  if (isDelta !== (base !== undefined)) {
    throw new ShadowError('E_MANIFEST_INVALID', `${path}: a delta and a base need each other`, {
      path,
    });
  }
  if (base === undefined) return { directory, manifest, sha256: found, base: undefined };
  const baseDirectory = join(dirname(dirname(directory)), base.round, basename(directory));
  const opened = await openShadow(baseDirectory, base.shadow);
  if (opened.base === undefined) return { directory, manifest, sha256: found, base: opened };
  const message = `${path}: its base is a delta itself`;
  throw new ShadowError('E_MANIFEST_INVALID', message, { path });
}

/** What a shadow is a delta of, if it is one. @throws as `openShadow` does */
export async function readBaseName(directory: string): Promise<BaseName | undefined> {
  return readManifest(directory).manifest.base;
}

function textOf(path: string): string {
  try {
    return readManifestInMemory(path);
  } catch (cause) {
    if (cause instanceof ShadowError) throw cause;
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  }
}

function readManifest(directory: string, sha256?: string) {
  const path = join(directory, SHADOW_FILE);
  const text = textOf(path);
  const found = sha256Of(text);
  if (sha256 !== undefined && found !== sha256) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} is not what the epoch names`, { path });
  }
  const manifest = unwrap(text, SHADOW_FORMAT, path);
  return { path, manifest, found };
}

/** Where pages of its blocks are, in the order of the manifest. */
export function readBlocks(shadow: SealedShadow): Promise<SealedBlock[]> {
  return Promise.all(shadow.manifest.blocks.map((block) => readBlock(shadow, block)));
}

async function readBlock(
  { directory, manifest }: SealedShadow,
  block: ShadowBlock,
): Promise<SealedBlock> {
  const { pageSize } = manifest;
  const path = join(directory, block.index.file);
  const options = { pageSize, pages: Math.ceil(block.bytes / pageSize), kind: block.kind, path };
  const index = decodeIndex(await readShadowFile(directory, block.index), options);
  if (index.slots * pageSize === block.fileBytes) return { block, index };
  throw new ShadowError('E_EPOCH_CORRUPT', `${path} is of another image`, { path });
}

/** Every file of a shadow but its manifest, its base's apart. */
export function shadowFiles(
  manifest: ShadowManifest,
): { readonly file: string; readonly witness: FileStamp }[] {
  const { blocks, configuration, deviceState, vmdesc } = manifest;
  return [
    ...blocks,
    ...blocks.map(({ index }) => index),
    configuration,
    deviceState,
    ...(vmdesc === undefined ? [] : [vmdesc]),
  ];
}

/**
 * Were any of its files, or its base's, touched since they were sealed? Costs a stat(2) each.
 */
export async function isUntouched(shadow: SealedShadow): Promise<boolean> {
  for (const one of shadowFiles(shadow.manifest)) {
    if (!(await fileIsUntouched(shadow.directory, one))) return false;
  }
  return shadow.base === undefined || isUntouched(shadow.base);
}

/** @throws ShadowError E_EPOCH_CORRUPT, naming the first file whose content is wrong */
export async function verifyShadow(shadow: SealedShadow, mode: VerifyMode): Promise<void> {
  if (mode === 'changed' && (await isUntouched(shadow))) return;
  if (shadow.base !== undefined) await verifyShadow(shadow.base, mode);
  const { directory, manifest } = shadow;
  const { configuration, deviceState, vmdesc } = manifest;
  const small = [configuration, deviceState, ...(vmdesc === undefined ? [] : [vmdesc])];
  for (const file of small) await readShadowFile(directory, file);
  for (const { block, index } of await readBlocks(shadow)) {
    if (block.kind === 'delta') requireBase(shadow, block);
    if (mode === 'changed' && (await fileIsUntouched(directory, block))) continue;
    await verifyImage(join(directory, block.file), index, block.kind);
  }
}

/** Reads a small file of a shadow (configuration, device state, vmdesc), checking its digest. */
export async function readShadowFile(directory: string, file: ShadowFile): Promise<Buffer> {
  const path = join(directory, file.file);
  const data = readWhole(path, file.bytes);
  if (data === undefined || sha256Of(data) !== file.sha256) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} does not match its digest`, { path });
  }
  return data;
}

/** @returns undefined if it is of another length: what it may have become is not read */
function readWhole(path: string, bytes: number): Buffer | undefined {
  try {
    const fd = openSync(path, 'r');
    try {
      return fstatSync(fd).size === bytes ? readFileSync(fd) : undefined;
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  }
}

interface OpenBlock {
  readonly entries: Int32Array;
  readonly image: ImageReader;
  /** The block of the base it is taken against, if it is a delta. */
  readonly base: ImageReader | undefined;
}

/** RAM of a sealed shadow, as a source of pages. Close it. */
export class SealedRam {
  readonly #pageSize: number;
  readonly #blocks: (OpenBlock | undefined)[] = [];

  /**
   * @param leave blocks (by index) that will not be read: the index of a large one takes time
   * @throws ShadowError E_EPOCH_CORRUPT
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

  /** Offsets of the pages that are not as in the base; of all pages, in a full shadow. */
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

/** The block of the base that a delta refers to. @throws ShadowError E_EPOCH_CORRUPT */
function requireBase(shadow: SealedShadow, { idstr, bytes }: ShadowBlock): ShadowBlock {
  const blocks = shadow.base?.manifest.blocks ?? [];
  const block = blocks.find((one) => one.idstr === idstr && one.bytes === bytes);
  if (block?.kind === 'full') return block;
  const { directory } = shadow;
  const message = `${directory}: ${idstr} is not in its base`;
  throw new ShadowError('E_EPOCH_CORRUPT', message, { path: directory });
}

function readerOfBase(shadow: SealedShadow, block: ShadowBlock): ImageReader {
  const { file, fileBytes, kind } = requireBase(shadow, block);
  return new ImageReader(join(shadow.base?.directory ?? '', file), fileBytes, kind);
}

/** Is this file as it was sealed, or as it was found whole since? Costs a stat(2) or two. */
export async function fileIsUntouched(
  directory: string,
  { file, witness }: { readonly file: string; readonly witness: FileStamp },
): Promise<boolean> {
  try {
    const now = takeFileStamp(join(directory, file));
    if (fileStampsAgree(now, witness)) return true;
    const retaken = (await retakenFileStamps(directory))[file];
    return retaken !== undefined && fileStampsAgree(now, retaken);
  } catch {
    return false; // let the full check name what is wrong
  }
}
