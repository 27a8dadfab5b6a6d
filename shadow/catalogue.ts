/**
 * The catalogue: a folder that says which epochs a cluster has, with one manifest an epoch.
 *
 *     CATALOGUE/000007.json        published: epoch 7 exists, whole
 *     CATALOGUE/.000008.json.tmp   being written; ignored, and collected later
 *     CATALOGUE/.highest           highest number of a removed epoch; there from the beginning
 *
 * Publishing is one link(2) of a complete, synced file: before it the previous epoch is the newest,
 * after it the new one. The manifest of a folded epoch is replaced by rename(2). Retiring removes
 * the manifest first and the shadows afterwards. A crash in between leaves shadows that no manifest
 * names (they are collected), and never a manifest without its shadows.
 */
import { link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unwrap, wrap } from './envelope.ts';
import { ShadowError } from './errors.ts';
import { EPOCH_FORMAT, type EpochManifest } from './manifest.ts';
import { readManifestInMemory } from './manifest-file.ts';
import { epochFile, epochOfFile } from './names.ts';
import { Remembered } from './remembered.ts';
import { IGNORE_STEPS, type OnStep } from './steps.ts';
import { isFull, overwriteSynced, syncFolder, writeSynced } from './synced.ts';

/**
 * Epoch whose manifest this Umbra cannot read; the error says whether it is damaged or of another
 * version.
 */
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
  readonly #onStep: OnStep;
  readonly #manifests = new Remembered<EpochManifest>();

  /** @param onStep called after every step (steps.ts) */
  constructor(directory: string, cluster: string, onStep: OnStep = IGNORE_STEPS) {
    this.directory = directory;
    this.#cluster = cluster;
    this.#onStep = onStep;
  }

  /** Makes the folder, unless it is there. */
  async prepare(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    // Now, because an epoch may be removed for want of room: then there is none for this file.
    const isThere = await stat(this.#highest).then(
      ({ size }) => size > 0,
      () => false,
    );
    if (isThere) return;
    await writeFile(this.#highest, '0', { mode: 0o600 }).catch((error: unknown) => {
      if (!isFull(error)) throw error;
    });
  }

  /** Lists every epoch, and for those that cannot be read, why. */
  async list(): Promise<Listing> {
    const epochs: EpochManifest[] = [];
    const damaged: DamagedEpoch[] = [];
    const numbers = await this.#numbers();
    this.#manifests.keep(new Set(numbers.map((epoch) => this.#path(epoch))));
    for (const epoch of numbers) {
      try {
        epochs.push(await this.read(epoch));
      } catch (error) {
        if (!(error instanceof ShadowError)) throw error;
        damaged.push({ epoch, error });
      }
    }
    return { epochs, damaged };
  }

  /**
   * Reads the manifest of an epoch.
   * @throws ShadowError E_EPOCH_UNKNOWN, E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_MANIFEST_FEATURE
   */
  async read(epoch: number): Promise<EpochManifest> {
    const path = this.#path(epoch);
    try {
      return this.#manifests.of(path, () => this.#parse(epoch, path));
    } catch (cause) {
      if (cause instanceof ShadowError) throw cause;
      const known = (await this.#numbers()).join(', ') || 'none';
      const message = `no epoch ${epoch}; there are: ${known}`;
      throw new ShadowError('E_EPOCH_UNKNOWN', message, { path, cause });
    }
  }

  #parse(epoch: number, path: string): EpochManifest {
    const manifest = unwrap(readManifestInMemory(path), EPOCH_FORMAT, path);
    if (manifest.epoch !== epoch || manifest.cluster !== this.#cluster) {
      const found = `epoch ${manifest.epoch} of ${manifest.cluster}`;
      throw new ShadowError('E_MANIFEST_INVALID', `${path} describes ${found}`, { path });
    }
    return manifest;
  }

  /**
   * Returns the number of the next epoch. No number is used twice, not even that of a removed
   * epoch.
   */
  async nextEpoch(): Promise<number> {
    const used = await readFile(this.#highest, 'utf8').then(Number, () => 0);
    return Math.max((await this.#numbers()).at(-1) ?? 0, Number.isSafeInteger(used) ? used : 0) + 1;
  }

  /**
   * Makes an epoch exist, atomically.
   * @throws ShadowError E_EPOCH_EXISTS, E_STORE_NO_ROOM, E_STORE_IO
   */
  async publish(manifest: EpochManifest): Promise<void> {
    const path = this.#path(manifest.epoch);
    const draft = join(this.directory, `.${epochFile(manifest.epoch)}.tmp`);
    await rm(draft, { force: true });
    await writeSynced(draft, wrap(manifest));
    this.#onStep('commit/drafted');
    try {
      await link(draft, path);
      this.#onStep('commit/linked');
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
      await syncFolder(this.directory);
    } catch (cause) {
      await rm(path, { force: true }); // an epoch exists on its device, or not at all
      throw new ShadowError('E_STORE_IO', `cannot sync ${path}`, { path, cause });
    }
    this.#onStep('commit/synced');
  }

  /**
   * Replaces the shadows of an epoch by others with the same content, atomically.
   * @throws ShadowError E_EPOCH_UNKNOWN if the epoch no longer exists
   */
  async replace(manifest: EpochManifest): Promise<void> {
    const path = this.#path(manifest.epoch);
    const draft = join(this.directory, `.${epochFile(manifest.epoch)}.tmp`);
    await rm(draft, { force: true });
    await writeSynced(draft, wrap(manifest));
    this.#onStep('fold/drafted');
    try {
      await this.read(manifest.epoch);
      await rename(draft, path);
    } finally {
      await rm(draft, { force: true });
    }
    this.#onStep('fold/renamed');
    await syncFolder(this.directory);
    this.#onStep('fold/synced');
  }

  /**
   * Removes an epoch from the catalogue; the caller removes its shadows afterwards. It takes no
   * memory, because it is how memory is freed.
   */
  async retire(epoch: number): Promise<void> {
    const isNewest = epoch >= ((await this.#numbers()).at(-1) ?? 0);
    const highest = (await this.nextEpoch()) - 1;
    const isNoted = !isNewest || (await this.#noteHighest(highest));
    this.#onStep('retire/numbered');
    await rm(this.#path(epoch), { force: true });
    if (!isNoted) await this.#noteHighest(highest); // in the room its manifest had
    this.#onStep('retire/unlinked');
    await syncFolder(this.directory);
    this.#onStep('retire/synced');
  }

  /**
   * Notes the highest number of a removed epoch. Numbers of listed epochs need no note.
   * @returns false if there is no room for the note
   */
  async #noteHighest(highest: number): Promise<boolean> {
    const draft = `${this.#highest}.tmp`;
    try {
      await rm(draft, { force: true });
      await writeSynced(draft, String(highest));
      await rename(draft, this.#highest);
      return true;
    } catch (error) {
      if (!(error instanceof ShadowError) || error.code !== 'E_STORE_NO_ROOM') throw error;
    }
    try {
      await overwriteSynced(this.#highest, String(highest)); // never fewer bytes than before
      return true;
    } catch (error) {
      if (!isFull(error)) throw error;
      return false;
    }
  }

  async #numbers(): Promise<number[]> {
    const names = await readdir(this.directory);
    return names.flatMap((name) => epochOfFile(name) ?? []).sort((a, b) => a - b);
  }

  get #highest(): string {
    return join(this.directory, '.highest');
  }

  #path(epoch: number): string {
    return join(this.directory, epochFile(epoch));
  }
}
