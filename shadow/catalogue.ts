/**
 * The catalogue: which epochs a cluster has. A directory with one manifest an epoch.
 *
 *     CATALOGUE/000007.json        published: epoch 7 exists, whole
 *     CATALOGUE/.000008.json.tmp   being written; ignored, collected later
 *     CATALOGUE/.highest           highest number of a removed epoch
 *
 * Publishing is one link(2) of a complete, synced file: before it the previous epoch is the truth,
 * after it the new one. Retiring removes the manifest first and the shadows after, so a crash in
 * between leaves unnamed shadows (collected), never a named epoch without its shadows.
 */
import { link, mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShadowError } from './errors.ts';
import {
  decodeManifest,
  type EpochManifest,
  encodeManifest,
  epochManifestSchema,
} from './manifest.ts';
import { writeSynced } from './staging.ts';

/** Folders of rounds: `r`, the epoch they were for, and a random part. */
const ROUND_NAME = /^r\d{6,}-[0-9a-f]{8}$/;
const MANIFEST_NAME = /^(\d{6,})\.json$/;

export interface DamagedEpoch {
  readonly epoch: number;
  readonly error: ShadowError;
}

export interface Listing {
  /** Oldest first. */
  readonly epochs: readonly EpochManifest[];
  readonly damaged: readonly DamagedEpoch[];
}

export class Catalogue {
  readonly directory: string;
  readonly #cluster: string;

  constructor(directory: string, cluster: string) {
    this.directory = directory;
    this.#cluster = cluster;
  }

  async prepare(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
  }

  /** Every epoch, and for those that cannot be read, why. */
  async list(): Promise<Listing> {
    const epochs: EpochManifest[] = [];
    const damaged: DamagedEpoch[] = [];
    for (const epoch of await this.#numbers()) {
      try {
        epochs.push(await this.read(epoch));
      } catch (error) {
        if (!(error instanceof ShadowError)) throw error;
        damaged.push({ epoch, error });
      }
    }
    return { epochs, damaged };
  }

  /** @throws ShadowError E_EPOCH_UNKNOWN, E_MANIFEST_INVALID, E_MANIFEST_VERSION */
  async read(epoch: number): Promise<EpochManifest> {
    const path = this.#path(epoch);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (cause) {
      const known = (await this.#numbers()).join(', ') || 'none';
      const message = `no epoch ${epoch}; there are: ${known}`;
      throw new ShadowError('E_EPOCH_UNKNOWN', message, { path, cause });
    }
    const manifest = decodeManifest(text, epochManifestSchema, path);
    if (manifest.epoch !== epoch || manifest.cluster !== this.#cluster) {
      const found = `epoch ${manifest.epoch} of ${manifest.cluster}`;
      throw new ShadowError('E_MANIFEST_INVALID', `${path} describes ${found}`, { path });
    }
    return manifest;
  }

  /** The number the next epoch gets. No number is used twice, not even a removed epoch's. */
  async nextEpoch(): Promise<number> {
    const used = await readFile(this.#highest, 'utf8').then(Number, () => 0);
    return Math.max((await this.#numbers()).at(-1) ?? 0, Number.isSafeInteger(used) ? used : 0) + 1;
  }

  /**
   * Makes an epoch exist, atomically.
   * @throws ShadowError E_EPOCH_EXISTS
   */
  async publish(manifest: EpochManifest): Promise<void> {
    const path = this.#path(manifest.epoch);
    const draft = join(this.directory, `.${fileName(manifest.epoch)}.tmp`);
    await rm(draft, { force: true });
    await writeSynced(draft, encodeManifest(manifest));
    try {
      await link(draft, path);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'EEXIST') {
        const message = `epoch ${manifest.epoch} is already published`;
        throw new ShadowError('E_EPOCH_EXISTS', message, { path, cause });
      }
      throw new ShadowError('E_STORE_IO', `cannot publish ${path}: ${code}`, { path, cause });
    } finally {
      await rm(draft, { force: true });
    }
    try {
      await this.#sync();
    } catch (cause) {
      await rm(path, { force: true }); // it must not exist by halves
      throw new ShadowError('E_STORE_IO', `cannot sync ${path}`, { path, cause });
    }
  }

  /** Makes an epoch no longer exist. Its shadows are the caller's to remove, afterwards. */
  async retire(epoch: number): Promise<void> {
    const highest = (await this.nextEpoch()) - 1;
    await writeFile(this.#highest, String(highest), { mode: 0o600 });
    await rm(this.#path(epoch), { force: true });
    await this.#sync();
  }

  async #numbers(): Promise<number[]> {
    const names = await readdir(this.directory);
    return names
      .map((name) => Number(MANIFEST_NAME.exec(name)?.[1] ?? Number.NaN))
      .filter((epoch) => !Number.isNaN(epoch))
      .sort((a, b) => a - b);
  }

  get #highest(): string {
    return join(this.directory, '.highest');
  }

  #path(epoch: number): string {
    return join(this.directory, fileName(epoch));
  }

  async #sync(): Promise<void> {
    const handle = await open(this.directory, 'r');
    await handle.sync().finally(() => handle.close());
  }
}

function fileName(epoch: number): string {
  return `${String(epoch).padStart(6, '0')}.json`;
}

/**
 * Removes the folders of rounds that no epoch names: what an aborted round or a crash left.
 * Nothing is removed while a manifest cannot be read, for it might name any of them.
 * @param keep rounds still being written
 * @returns the rounds removed
 */
export async function collectLeftovers(
  shadowsDirectory: string,
  catalogue: Catalogue,
  keep: ReadonlySet<string> = new Set(),
): Promise<string[]> {
  const { epochs, damaged } = await catalogue.list();
  if (damaged.length > 0) return [];
  const named = new Set(epochs.map((epoch) => epoch.round));
  const removed: string[] = [];
  for (const round of await readdir(shadowsDirectory)) {
    const path = join(shadowsDirectory, round);
    if (!ROUND_NAME.test(round)) continue; // not ours
    if (named.has(round) || keep.has(round) || !(await stat(path)).isDirectory()) continue;
    await rm(path, { recursive: true, force: true });
    removed.push(round);
  }
  return removed;
}
