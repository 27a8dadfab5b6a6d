/**
 * A sealed shadow, opened to be verified, restored, or compared with. No process writes to it any
 * more.
 *
 *     STORE/shadows/ROUND/MEMBER        the shadow
 *     STORE/shadows/BASE ROUND/MEMBER   the base of its deltas, if it has any
 *
 *     full ◀──base── delta                          what differs from the base
 *     full ◀──base── link ◀──base── link ◀── …      a chain: what was written since the base
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { sha256Of, unwrap } from './envelope.ts';
import { ShadowError } from './errors.ts';
import type { FileStamp } from './file-stamp.ts';
import {
  SHADOW_FORMAT,
  type ShadowBlock,
  type ShadowFile,
  type ShadowManifest,
} from './manifest.ts';
import { readManifestInMemory } from './manifest-file.ts';
import { SHADOW_FILE } from './names.ts';
import { decodeIndex, type PageIndex } from './page-index.ts';
import { Remembered } from './remembered.ts';

/** Sealed shadow, without its bases. */
export interface OneShadow {
  readonly directory: string;
  readonly manifest: ShadowManifest;
  /** SHA-256 of its shadow.json. */
  readonly sha256: string;
}

/** Sealed shadow, and its base if it has one. */
export interface SealedShadow extends OneShadow {
  readonly base: SealedShadow | undefined;
}

/** RAM block of a sealed shadow, with its page index. */
export interface SealedBlock {
  readonly block: ShadowBlock;
  readonly index: PageIndex;
}

/** The most links of a chain: what is read off the store is bounded. */
const CHAIN_MAX = 1024;

/**
 * Reads the manifests of a shadow and of the chain of its bases, and checks them against the
 * digests that name them.
 * @param sha256 digest by which the epoch names the shadow; undefined: not checked
 * @param known shadows that were opened before, by digest, and are not read again
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_MANIFEST_FEATURE
 */
export async function openShadow(
  directory: string,
  sha256?: string,
  known?: ReadonlyMap<string, SealedShadow>,
): Promise<SealedShadow> {
  const chain: OneShadow[] = [];
  let rest: SealedShadow | undefined;
  for (let [at, digest]: [string, string | undefined] = [directory, sha256]; ; ) {
    rest = digest === undefined ? undefined : known?.get(digest);
    if (rest?.directory === at) break;
    rest = undefined;
    const { path, manifest, found } = readManifest(at, digest);
    const { base } = manifest;
    const isDelta = manifest.blocks.some(({ kind }) => kind === 'delta');
    const invalid = (why: string) =>
      new ShadowError('E_MANIFEST_INVALID', `${path}: ${why}`, { path });
    if (isDelta !== (base !== undefined)) throw invalid('a delta and a base need each other');
    chain.push({ directory: at, manifest, sha256: found });
    if (base === undefined) break;
    if (chain.length > CHAIN_MAX) throw invalid(`its chain has more than ${CHAIN_MAX} links`);
    at = join(dirname(dirname(at)), base.round, basename(at));
    digest = base.shadow;
  }
  const opened = chain.reduceRight<SealedShadow | undefined>(
    (base, link) => ({ ...link, base }),
    rest,
  );
  if (opened === undefined) throw new Error('a chain has a shadow at least');
  return opened;
}

/** Reads the manifest of a shadow alone. @throws as `openShadow` does */
export function openOneShadow(directory: string, sha256: string): OneShadow {
  const { manifest, found } = readManifest(directory, sha256);
  return { directory, manifest, sha256: found };
}

/** Lists a shadow and its bases, the root of the chain last. */
export function chainOf(shadow: SealedShadow): SealedShadow[] {
  const chain: SealedShadow[] = [];
  for (let at: SealedShadow | undefined = shadow; at !== undefined; at = at.base) chain.push(at);
  return chain;
}

/** Returns the full shadow that a chain ends with; the shadow itself if it is no delta. */
export function rootOf(shadow: SealedShadow): SealedShadow {
  return chainOf(shadow).at(-1) ?? shadow;
}

/** Returns the round in which the VM was captured. A folded shadow is in the folder of another. */
export function cutOf({ cut, round }: ShadowManifest): string {
  return cut ?? round;
}

/** Rounds that shadows are stored against, by the path of shadow.json. */
export type BaseRounds = Remembered<string | undefined>;

/**
 * Reads the rounds of the chain of bases of a shadow, the nearest first; none if it is no delta.
 * @throws as `openShadow` does
 */
export function* readBases(
  shadowsDirectory: string,
  round: string,
  member: string,
  remembered: BaseRounds = new Remembered(),
): Generator<string> {
  let at = round;
  for (let links = 0; links <= CHAIN_MAX; links++) {
    const directory = join(shadowsDirectory, at, member);
    const base = remembered.of(join(directory, SHADOW_FILE), () => {
      return readManifest(directory).manifest.base?.round;
    });
    if (base === undefined) return;
    yield base;
    at = base;
  }
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

/**
 * Reads the page indices of a shadow's RAM blocks, in the order of its manifest.
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_VERSION
 */
export function readBlocks(shadow: SealedShadow): Promise<SealedBlock[]> {
  return Promise.all(shadow.manifest.blocks.map((block) => readBlock(shadow, block)));
}

/**
 * Reads the page index of one RAM block. @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_VERSION
 */
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

/** Lists every file of a shadow except its manifest; files of its base are not among them. */
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
 * Reads a small file of a shadow (configuration, device state, vmdesc, index), and checks its
 * digest.
 * @throws ShadowError E_EPOCH_CORRUPT
 */
export async function readShadowFile(directory: string, file: ShadowFile): Promise<Buffer> {
  const path = join(directory, file.file);
  const data = readWhole(path, file.bytes);
  if (data === undefined || sha256Of(data) !== file.sha256) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} does not match its digest`, { path });
  }
  return data;
}

/** Reads a file of known length. @returns undefined, reading nothing, if it has another length */
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

/** Finds the block of the base that a delta refers to. @throws ShadowError E_EPOCH_CORRUPT */
export function requireBase(shadow: SealedShadow, { idstr, bytes }: ShadowBlock): ShadowBlock {
  const blocks = shadow.base?.manifest.blocks ?? [];
  const block = blocks.find((one) => one.idstr === idstr && one.bytes === bytes);
  if (block !== undefined) return block;
  const { directory } = shadow;
  const message = `${directory}: ${idstr} is not in its base`;
  throw new ShadowError('E_EPOCH_CORRUPT', message, { path: directory });
}
