/** Brings a shadow from disk back into a store. */
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { retakeFileStamps } from '../retaken-stamps.ts';
import { openShadow, shadowFiles } from '../sealed-shadow.ts';
import { verifyShadow } from '../verify.ts';
import type { ContainedFile } from './durable-manifest.ts';
import { readContained, readDurable, type ShadowName } from './shadow-folder.ts';
import { SparseFile, storeError } from './sparse-file.ts';

/**
 * Makes a shadow's folder again from disk: the same bytes, holes where holes were. Then it checks
 * all of it against the digests of the shadow's own manifest.
 * @param target must not exist; on failure, the caller removes what is there
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_MANIFEST_FEATURE,
 * E_STORE_NO_ROOM, E_STORE_IO, E_DURABLE_IO
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
    const sink = new SparseFile(path, onContent);
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

/** Syncs the files: they were synced when they were sealed, and the store need not be on tmpfs. */
async function syncAll(folder: string, files: readonly ContainedFile[]): Promise<void> {
  for (const { file } of files) {
    const handle = await open(join(folder, file), 'r');
    await handle.sync().finally(() => handle.close());
  }
}

async function inStore<T>(path: string, work: () => Promise<T>): Promise<T> {
  return work().catch((cause: unknown) => {
    throw storeError(path, cause);
  });
}
