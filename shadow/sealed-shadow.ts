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
import type { FileStamp } from './file-stamp.ts';
import {
  type BaseName,
  SHADOW_FORMAT,
  type ShadowBlock,
  type ShadowFile,
  type ShadowManifest,
} from './manifest.ts';
import { readManifestInMemory } from './manifest-file.ts';
import { SHADOW_FILE } from './names.ts';
import { decodeIndex, type PageIndex } from './page-index.ts';

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

export async function readBlock(
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

/** The block of the base that a delta refers to. @throws ShadowError E_EPOCH_CORRUPT */
export function requireBase(shadow: SealedShadow, { idstr, bytes }: ShadowBlock): ShadowBlock {
  const blocks = shadow.base?.manifest.blocks ?? [];
  const block = blocks.find((one) => one.idstr === idstr && one.bytes === bytes);
  if (block?.kind === 'full') return block;
  const { directory } = shadow;
  const message = `${directory}: ${idstr} is not in its base`;
  throw new ShadowError('E_EPOCH_CORRUPT', message, { path: directory });
}
