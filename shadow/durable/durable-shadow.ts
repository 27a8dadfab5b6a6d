/**
 * One member's shadow on disk: its folder, file by file.
 *
 *     ROUND/MEMBER/FILE.umbra          a container of each file (container.ts)
 *     ROUND/MEMBER/FILE.umbra.PID.part one being written
 *     ROUND/MEMBER/durable.json        last: the shadow is whole, and these are its files
 *
 * What a file means is no concern of this module. It may be interrupted at any step: containers that
 * have their names are whole, and are kept by the next attempt.
 */
import { closeSync, ftruncateSync, openSync, type Stats, writeSync } from 'node:fs';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MANIFEST_LIMIT_BYTES, sha256Of, unwrap, wrap } from '../envelope.ts';
import { ShadowError } from '../errors.ts';
import { type FileStamp, fileStampsAgree, takeFileStamp } from '../file-stamp.ts';
import { type BaseName, SHADOW_FILE, SHADOW_FORMAT, type ShadowManifest } from '../manifest.ts';
import { readManifestFile } from '../manifest-file.ts';
import { retakeFileStamps } from '../retaken-stamps.ts';
import { openShadow, shadowFiles, verifyShadow } from '../sealed.ts';
import { syncFolder, writeNamed } from '../synced.ts';
import { footersAgree, keyOf } from './container.ts';
import { onDisk } from './disk.ts';
import {
  type ContainedFile,
  DURABLE_FORMAT,
  DURABLE_VERSION,
  type DurableManifest,
} from './durable-manifest.ts';
import { type ContentSink, peekContainer, readContainer } from './reader.ts';
import { PART, type WriteOptions, writeContainer } from './writer.ts';

export const CONTAINER = '.umbra';
const MANIFEST = 'durable.json';
/** The unit of st_blocks (stat(2)). */
const BLOCK_BYTES = 512;

/** A member's shadow, and the folder of a store it is in. */
export interface ShadowName {
  readonly round: string;
  readonly member: string;
  /** SHA-256 of its shadow.json. */
  readonly shadow: string;
}

/** Memory the shadow's files hold, by the kernel's account. @throws ShadowError E_EPOCH_CORRUPT */
export async function occupiedBytes(source: string, shadow: string): Promise<number> {
  const { manifest } = await openShadow(source, shadow);
  const files = [...shadowFiles(manifest), { file: SHADOW_FILE }];
  const sizes = await Promise.all(
    files.map(({ file }) => stat(join(source, file)).catch(() => null)),
  );
  return sizes.reduce((sum, stats) => sum + Math.min(stats?.size ?? 0, blockBytes(stats)), 0);
}

function blockBytes(stats: Stats | null): number {
  return (stats?.blocks ?? 0) * BLOCK_BYTES;
}

/** The base a sealed shadow refers to. @throws ShadowError E_EPOCH_CORRUPT */
export async function baseOfShadow(source: string, shadow: string): Promise<BaseName | undefined> {
  return (await openShadow(source, shadow)).manifest.base;
}

/**
 * Brings a shadow to disk. Does nothing if it is there.
 * @param source the sealed shadow's folder
 * @param target its folder on disk
 * @throws ShadowError E_EPOCH_CORRUPT (the source), E_DURABLE_NO_ROOM, E_DURABLE_IO
 */
export async function persistShadow(
  source: string,
  target: string,
  name: ShadowName,
  options: WriteOptions,
): Promise<DurableManifest> {
  const there = await readDurable(target, name).catch(() => undefined);
  if (there !== undefined) {
    for (const { footer } of there.files) options.onContent(footer.contentBytes);
    return there;
  }
  const sealed = await openShadow(source, name.shadow);
  const { manifest } = sealed;
  // What was touched since the seal is read and compared first: bit rot must not be made durable.
  await verifyShadow(sealed, 'changed');
  await onDisk('make', target, () => mkdir(target, { recursive: true, mode: 0o700 }));
  await onDisk('clear', target, () => removeForeign(target, name, manifest));
  options.onStep('shadow/folder');
  const files: ContainedFile[] = [];
  for (const file of [...shadowFiles(manifest).map((one) => one.file), SHADOW_FILE]) {
    files.push(await persistFile(source, target, name.shadow, file, options));
  }
  await onDisk('sync', target, () => syncFolder(target));
  options.onStep('shadow/files');
  const { base } = manifest;
  const durable: DurableManifest = {
    format: 'umbra-durable-shadow',
    version: DURABLE_VERSION,
    ...name,
    ...(base !== undefined && { base }),
    files,
  };
  const path = join(target, MANIFEST);
  const draft = join(target, `.${MANIFEST}.${process.pid}.tmp`);
  await onDisk('write', path, () =>
    writeNamed(path, draft, wrap(durable), () => {
      options.onStep('shadow/manifest-drafted');
    }),
  );
  options.onStep('shadow/manifest-named');
  return durable;
}

/**
 * A container that an earlier attempt finished is kept: it was synced before it got its name. What is touched
 * while it is read, and is still what was sealed, is read again: its holes may have been taken back.
 */
async function persistFile(
  source: string,
  target: string,
  shadow: string,
  file: string,
  options: WriteOptions,
): Promise<ContainedFile> {
  const path = join(source, file);
  const container = join(target, `${file}${CONTAINER}`);
  const key = keyOf(shadow, file);
  for (;;) {
    const before = takeSourceWitness(path);
    const there = await peekContainer(container, key);
    if (there !== undefined) {
      options.onContent(there.contentBytes);
      return { file, bytes: before.size, footer: there };
    }
    const footer = await writeContainer(path, container, key, options);
    if (fileStampsAgree(before, takeSourceWitness(path)))
      return { file, bytes: before.size, footer };
    await rm(container, { force: true });
    await verifyShadow(await openShadow(source, shadow), 'changed');
  }
}

function takeSourceWitness(path: string): FileStamp {
  try {
    return takeFileStamp(path);
  } catch (cause) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  }
}

/** Drafts, and whatever another attempt left that is none of this shadow's. */
async function removeForeign(
  target: string,
  { shadow }: ShadowName,
  manifest: ShadowManifest,
): Promise<void> {
  const wanted = new Set([...shadowFiles(manifest).map(({ file }) => file), SHADOW_FILE]);
  for (const name of await readdir(target)) {
    const file = name.slice(0, -CONTAINER.length);
    const ours = name.endsWith(CONTAINER) && !name.endsWith(PART) && wanted.has(file);
    const whole = ours && (await peekContainer(join(target, name), keyOf(shadow, file)));
    if (!whole) await rm(join(target, name), { recursive: true, force: true });
  }
}

/**
 * @throws ShadowError E_EPOCH_CORRUPT (it is not there, or another's), E_MANIFEST_INVALID,
 * E_MANIFEST_VERSION
 */
export async function readDurable(target: string, name: ShadowName): Promise<DurableManifest> {
  const path = join(target, MANIFEST);
  const text = await readManifestFile(path).catch((cause: unknown) => {
    if (cause instanceof ShadowError) throw cause;
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  });
  const manifest = unwrap(text, DURABLE_FORMAT, path);
  const { round, member, shadow } = manifest;
  if (round !== name.round || member !== name.member || shadow !== name.shadow) {
    const message = `${path} is not of the shadow the epoch names`;
    throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
  }
  return manifest;
}

/** Memory it takes when it is fetched, bytes. */
export function contentBytes({ files }: DurableManifest): number {
  return files.reduce((sum, { footer }) => sum + footer.contentBytes, 0);
}

/**
 * Reads every byte of a shadow on disk.
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_DURABLE_IO
 */
export async function verifyDurable(
  target: string,
  name: ShadowName,
  onContent: (bytes: number) => void,
): Promise<void> {
  const manifest = await readDurable(target, name);
  for (const contained of manifest.files) {
    const parts: Buffer[] = [];
    const whole = contained.file === SHADOW_FILE;
    if (whole && contained.bytes > MANIFEST_LIMIT_BYTES) {
      const path = join(target, `${SHADOW_FILE}${CONTAINER}`);
      throw new ShadowError('E_MANIFEST_INVALID', `${path} is of no manifest`, { path });
    }
    await readContained(target, name.shadow, contained, {
      length: () => {},
      write: (content, at, { bytes }) => {
        if (whole) parts.push(content.subarray(at, at + bytes));
      },
      onContent,
    });
    if (whole) requireNamed(manifest, Buffer.concat(parts), join(target, MANIFEST));
  }
  if (manifest.files.some(({ file }) => file === SHADOW_FILE)) return;
  const path = join(target, MANIFEST);
  throw new ShadowError('E_EPOCH_CORRUPT', `${path} lists no ${SHADOW_FILE}`, { path });
}

/**
 * A shadow's own manifest is what the epoch names, and says what has to be there: a fetch would miss it.
 * @param path of the durable manifest
 */
function requireNamed(durable: DurableManifest, text: Buffer, path: string): void {
  const corrupt = (why: string) => new ShadowError('E_EPOCH_CORRUPT', `${path}: ${why}`, { path });
  if (sha256Of(text) !== durable.shadow) {
    throw corrupt(`its ${SHADOW_FILE} is not what the epoch names`);
  }
  const shadow = unwrap(text.toString('utf8'), SHADOW_FORMAT, path);
  const wanted = [...shadowFiles(shadow).map(({ file }) => file), SHADOW_FILE].sort();
  const there = durable.files.map(({ file }) => file).sort();
  if (wanted.join() !== there.join()) throw corrupt(`it lists ${there}, not ${wanted}`);
  const { base } = durable;
  if (shadow.base?.round !== base?.round || shadow.base?.shadow !== base?.shadow) {
    throw corrupt('it names another base than its shadow');
  }
}

/**
 * Makes a shadow's folder again from disk: the same bytes, holes where holes were; then checks all of
 * it against the digests of its own manifest.
 * @param target must not exist; on failure, what is there is the caller's to remove
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_STORE_NO_ROOM,
 * E_STORE_IO, E_DURABLE_IO
 */
export async function fetchShadow(
  source: string,
  target: string,
  name: ShadowName,
  onContent: (bytes: number) => void,
): Promise<void> {
  const durable = await readDurable(source, name);
  await inStore(target, () => mkdir(target, { recursive: true, mode: 0o700 }));
  for (const contained of durable.files) {
    const path = join(target, contained.file);
    const sink = new FileSink(path, onContent);
    try {
      await readContained(source, name.shadow, contained, sink);
    } finally {
      sink.close();
    }
  }
  await inStore(target, () => syncAll(target, durable.files));
  const sealed = await openShadow(target, name.shadow);
  await verifyShadow(sealed, 'all');
  await retakeFileStamps(
    target,
    shadowFiles(sealed.manifest).map(({ file }) => file),
  );
}

async function readContained(
  folder: string,
  shadow: string,
  { file, bytes, footer }: ContainedFile,
  sink: ContentSink,
): Promise<void> {
  const path = join(folder, `${file}${CONTAINER}`);
  const checked: ContentSink = {
    ...{ write: sink.write.bind(sink), onContent: (count) => sink.onContent?.(count) },
    length: (found) => {
      if (found === bytes) return sink.length(bytes);
      const message = `${path} holds a file of ${found} bytes instead of ${bytes}`;
      throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
    },
  };
  const found = await readContainer(path, keyOf(shadow, file), checked);
  if (footersAgree(found, footer)) return;
  const message = `${path} is not the container its manifest describes`;
  throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
}

/** A file in memory, written sparse. */
class FileSink implements ContentSink {
  readonly #path: string;
  readonly #fd: number;
  readonly onContent: (bytes: number) => void;

  constructor(path: string, onContent: (bytes: number) => void) {
    this.#path = path;
    this.onContent = onContent;
    this.#fd = guard(path, () => openSync(path, 'wx', 0o600));
  }

  length(bytes: number): void {
    guard(this.#path, () => ftruncateSync(this.#fd, bytes));
  }

  write(content: Buffer, at: number, { offset, bytes }: { offset: number; bytes: number }): void {
    for (let done = 0; done < bytes; ) {
      done += guard(this.#path, () =>
        writeSync(this.#fd, content, at + done, bytes - done, offset + done),
      );
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Sealed files were synced once, and the store need not be on tmpfs. */
async function syncAll(folder: string, files: readonly ContainedFile[]): Promise<void> {
  for (const { file } of files) {
    const handle = await open(join(folder, file), 'r');
    await handle.sync().finally(() => handle.close());
  }
}

function guard<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw storeError(path, cause);
  }
}

async function inStore<T>(path: string, work: () => Promise<T>): Promise<T> {
  return work().catch((cause: unknown) => {
    throw storeError(path, cause);
  });
}

function storeError(path: string, cause: unknown): ShadowError {
  const { code } = cause as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'ENOMEM';
  const message = `cannot write ${path}: ${code}`;
  return new ShadowError(full ? 'E_STORE_NO_ROOM' : 'E_STORE_IO', message, { path, cause });
}
