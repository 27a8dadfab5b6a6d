/**
 * Brings a sealed shadow to disk, file by file. It may be interrupted at any step: a container that
 * has its name is whole, and the next attempt keeps it.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { wrap } from '../envelope.ts';
import { isOfAnotherUmbra, ShadowError } from '../errors.ts';
import { type FileStamp, fileStampsAgree, takeFileStamp } from '../file-stamp.ts';
import { STAT_BLOCK_BYTES } from '../libc.ts';
import type { BaseName, ShadowManifest } from '../manifest.ts';
import { SHADOW_FILE } from '../names.ts';
import { openShadow, shadowFiles } from '../sealed-shadow.ts';
import { syncFolder, writeNamed } from '../synced.ts';
import { verifyShadow } from '../verify.ts';
import { keyOf } from './container.ts';
import { onDisk } from './disk.ts';
import { type ContainedFile, DURABLE_VERSION, type DurableManifest } from './durable-manifest.ts';
import { peekContainer } from './reader.ts';
import { CONTAINER, DURABLE_FILE, readDurable, type ShadowName } from './shadow-folder.ts';
import { PART, type WriteOptions, writeContainer } from './writer.ts';

/**
 * Returns the memory that a shadow's files occupy, by the kernel's count, bytes.
 * @throws ShadowError E_EPOCH_CORRUPT
 */
export async function sourceBytes(source: string, shadow: string): Promise<number> {
  const { manifest } = await openShadow(source, shadow);
  const files = [...shadowFiles(manifest), { file: SHADOW_FILE }];
  const sizes = await Promise.all(
    files.map(({ file }) => stat(join(source, file)).catch(() => null)),
  );
  return sizes.reduce((sum, stats) => {
    return sum + Math.min(stats?.size ?? 0, (stats?.blocks ?? 0) * STAT_BLOCK_BYTES);
  }, 0);
}

/** Reads which base a sealed shadow refers to. @throws ShadowError E_EPOCH_CORRUPT */
export async function baseOfShadow(source: string, shadow: string): Promise<BaseName | undefined> {
  return (await openShadow(source, shadow)).manifest.base;
}

/**
 * Brings a shadow to disk. Does nothing if it is there.
 * @param source folder of the sealed shadow
 * @param target its folder on disk
 * @throws ShadowError E_EPOCH_CORRUPT (the source), E_DURABLE_NO_ROOM, E_DURABLE_IO;
 * E_MANIFEST_VERSION, E_MANIFEST_FEATURE if the shadow on disk is of another Umbra
 */
export async function persistShadow(
  source: string,
  target: string,
  name: ShadowName,
  options: WriteOptions,
): Promise<DurableManifest> {
  const there = await readIfWhole(target, name);
  if (there !== undefined) {
    for (const { footer } of there.files) options.onContent(footer.contentBytes);
    return there;
  }
  const sealed = await openShadow(source, name.shadow);
  const { manifest } = sealed;
  // Files touched since the seal are read and compared first: damage must not be made durable.
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
  const path = join(target, DURABLE_FILE);
  const draft = join(target, `.${DURABLE_FILE}.${process.pid}.tmp`);
  await onDisk('write', path, () =>
    writeNamed(path, draft, wrap(durable), () => {
      options.onStep('shadow/manifest-drafted');
    }),
  );
  options.onStep('shadow/manifest-named');
  return durable;
}

/**
 * Reads durable.json; undefined if the shadow is not whole on disk. Files of another Umbra are not
 * written over: their error is thrown.
 */
async function readIfWhole(target: string, name: ShadowName): Promise<DurableManifest | undefined> {
  return readDurable(target, name).catch((error: unknown) => {
    if (error instanceof ShadowError && isOfAnotherUmbra(error)) throw error;
    return undefined;
  });
}

/**
 * Writes the container of one file, and keeps one that an earlier attempt finished: it was synced
 * before it got its name. A file that is touched while it is read, and is verified to be as it was
 * sealed, is read again: its holes may have been freed.
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
    const before = takeSourceStamp(path);
    const there = await peekContainer(container, key);
    if (there !== undefined) {
      options.onContent(there.contentBytes);
      return { file, bytes: before.size, footer: there };
    }
    const footer = await writeContainer(path, container, key, options);
    if (fileStampsAgree(before, takeSourceStamp(path))) return { file, bytes: before.size, footer };
    await rm(container, { force: true });
    await verifyShadow(await openShadow(source, shadow), 'changed');
  }
}

function takeSourceStamp(path: string): FileStamp {
  try {
    return takeFileStamp(path);
  } catch (cause) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  }
}

/**
 * Removes drafts, and containers that an earlier attempt left and that do not belong to this
 * shadow.
 */
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
