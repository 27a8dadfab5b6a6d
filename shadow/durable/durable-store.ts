/**
 * Epochs on disk, where they outlive the host's RAM. A folder for each cluster:
 *
 *     DIR/CLUSTER/rounds/ROUND/MEMBER/   a shadow (shadow-folder.ts), once for all that refer to it
 *     DIR/CLUSTER/epochs/000007.json     the epoch's own manifest: epoch 7 is whole on disk
 *     DIR/CLUSTER/epochs/000007.pin      an operator wants it kept (pins.ts)
 *     DIR/CLUSTER/epochs/.000007.json.PID.tmp
 *
 * Persisting writes shadows, bases first, then the manifest. Retiring removes the manifest, then
 * every shadow that no manifest needs any more. Work that is cut short therefore leaves shadows
 * that no manifest lists, which the next attempt completes or collects; never an epoch that lacks a
 * shadow.
 */
import { mkdir, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Catalogue, type Listing } from '../catalogue.ts';
import { wrap } from '../envelope.ts';
import { isOfAnotherUmbra, ShadowError } from '../errors.ts';
import { RAMFS_MAGIC, TMPFS_MAGIC } from '../libc.ts';
import type { EpochManifest } from '../manifest.ts';
import { epochFile } from '../names.ts';
import { makeOwnFolder } from '../own-folder.ts';
import { pinEpoch, pinnedEpochs, unpinEpoch } from '../pins.ts';
import { syncFolder, writeNamed } from '../synced.ts';
import { onDisk } from './disk.ts';
import type { DurableManifest } from './durable-manifest.ts';
import { shadowsOf, withBases } from './epoch-shadows.ts';
import { fetchShadow } from './fetch-shadow.ts';
import { inParallel } from './in-parallel.ts';
import { baseOfShadow, persistShadow, sourceBytes } from './persist-shadow.ts';
import { contentBytes, readDurable, type ShadowName } from './shadow-folder.ts';
import { verifyDurable } from './verify-durable.ts';
import type { WriteOptions } from './writer.ts';

/** Filesystems that are lost with the host's RAM. */
const MEMORY_FILESYSTEMS: ReadonlySet<number> = new Set([TMPFS_MAGIC, RAMFS_MAGIC]);

export interface PersistProgress {
  /** Content, bytes. Shadows that were on disk already count as done. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface PersistOptions extends Omit<WriteOptions, 'onContent'> {
  /** Members that are persisted at once. */
  readonly parallel: number;
  readonly onProgress: (progress: PersistProgress) => void;
}

export interface PersistResult {
  readonly contentBytes: number;
  /** Bytes it takes on disk. */
  readonly storedBytes: number;
}

export class DurableStore {
  readonly directory: string;
  readonly #catalogue: Catalogue;

  /** @param directory folder of one cluster, DIR/CLUSTER */
  constructor(directory: string, cluster: string) {
    this.directory = directory;
    this.#catalogue = new Catalogue(join(directory, 'epochs'), cluster);
  }

  /**
   * Makes the folders, unless they are there. @throws ShadowError E_DURABLE_IO, E_DURABLE_NO_ROOM
   */
  async prepare(): Promise<void> {
    await onDisk('make', this.directory, async () => {
      makeOwnFolder(this.directory);
      await mkdir(this.#rounds, { recursive: true, mode: 0o700 });
      await this.#catalogue.prepare();
      await syncFolder(this.directory);
    });
  }

  /**
   * Tells why epochs on this disk may be lost together with the memory; undefined if there is no
   * doubt.
   */
  async doubt(shadowsDirectory: string): Promise<string | undefined> {
    return onDisk('look at', this.directory, async () => {
      const { type } = await statfs(this.directory);
      if (MEMORY_FILESYSTEMS.has(type)) return 'it is in memory (tmpfs), and lost with it';
      const [disk, store] = [await stat(this.directory), await stat(shadowsDirectory)];
      return disk.dev === store.dev ? 'it is on the same filesystem as the shadows' : undefined;
    });
  }

  /** Lists the epochs on disk, and those whose manifests cannot be read. */
  list(): Promise<Listing> {
    return onDisk('list', this.directory, () => this.#catalogue.list());
  }

  /** Returns the numbers of pinned epochs. */
  async pinned(): Promise<number[]> {
    const { directory } = this.#catalogue;
    return [...(await onDisk('list', directory, () => pinnedEpochs(directory)))];
  }

  /**
   * Pins an epoch, or removes its pin. Idempotent. @throws ShadowError E_DURABLE_IO,
   * E_DURABLE_NO_ROOM
   */
  async pin(epoch: number, pinned: boolean): Promise<void> {
    const { directory } = this.#catalogue;
    const change = pinned ? pinEpoch : unpinEpoch;
    await onDisk('write', directory, () => change(directory, epoch));
  }

  /** Returns the number that comes after every epoch that was ever on this disk. */
  nextEpoch(): Promise<number> {
    return onDisk('list', this.directory, () => this.#catalogue.nextEpoch());
  }

  /**
   * Brings the shadows of an epoch to disk, with the bases they refer to; those that are there are
   * kept. Afterwards `publish` lists the epoch.
   * @throws ShadowError E_EPOCH_CORRUPT (in the store), E_DURABLE_NO_ROOM, E_DURABLE_IO,
   * E_MANIFEST_VERSION, E_MANIFEST_FEATURE
   */
  async persistShadows(
    epoch: EpochManifest,
    shadowsDirectory: string,
    options: PersistOptions,
  ): Promise<PersistResult> {
    await this.prepare();
    const source = ({ round, member }: ShadowName) => join(shadowsDirectory, round, member);
    const names = await withBases(shadowsOf(epoch), async (name) => {
      return baseOfShadow(source(name), name.shadow);
    });
    const sizes = await Promise.all(names.map((name) => sourceBytes(source(name), name.shadow)));
    const totalBytes = sum(sizes);
    let doneBytes = 0;
    const onContent = (bytes: number) => {
      doneBytes += bytes;
      options.onProgress({ doneBytes, totalBytes });
    };
    const written = await inParallel(options.parallel, names, (name) => {
      return persistShadow(source(name), this.#folder(name), name, { ...options, onContent });
    });
    await onDisk('sync', this.#rounds, async () => {
      for (const round of new Set(names.map((name) => name.round))) {
        await syncFolder(join(this.#rounds, round));
      }
      await syncFolder(this.#rounds);
    });
    options.onStep('epoch/shadows');
    return { contentBytes: sum(written.map(contentBytes)), storedBytes: sum(written.map(stored)) };
  }

  /**
   * Lists an epoch whose shadows are on disk. To list it again replaces its manifest by the same.
   * @throws ShadowError E_EPOCH_EXISTS if another is listed under its number; E_MANIFEST_VERSION,
   * E_MANIFEST_FEATURE if one of another Umbra is; E_DURABLE_NO_ROOM, E_DURABLE_IO
   */
  async publish(epoch: EpochManifest, onStep: PersistOptions['onStep']): Promise<void> {
    const name = epochFile(epoch.epoch);
    const path = join(this.#catalogue.directory, name);
    const other = await this.#catalogue.read(epoch.epoch).catch((error: unknown) => {
      // What another Umbra has written is not written over.
      if (error instanceof ShadowError && isOfAnotherUmbra(error)) throw error;
      return undefined;
    });
    if (other !== undefined && other.createdAt !== epoch.createdAt) {
      const message = `there is another epoch ${epoch.epoch} on disk, of ${other.createdAt}`;
      throw new ShadowError('E_EPOCH_EXISTS', message, { path });
    }
    const draft = join(this.#catalogue.directory, `.${name}.${process.pid}.tmp`);
    await onDisk('write', path, () =>
      writeNamed(path, draft, wrap(epoch), () => onStep('epoch/drafted')),
    );
    onStep('epoch/named');
  }

  /** Removes epochs from the list, and the shadows that none of the others needs. */
  async retire(epochs: readonly number[], onStep: PersistOptions['onStep']): Promise<void> {
    await onDisk('remove epochs in', this.directory, async () => {
      for (const epoch of epochs) {
        await this.#catalogue.retire(epoch);
        onStep('retire/unlisted');
      }
    });
    await this.collect();
    onStep('retire/collected');
  }

  /**
   * Removes shadows that no epoch needs, and drafts. Do not call it while one is being persisted.
   * Nothing is removed while a manifest cannot be read, because it might need any of them.
   * @returns ROUND/MEMBER of each shadow removed
   */
  async collect(): Promise<string[]> {
    const { epochs, damaged } = await this.list();
    if (damaged.length > 0) return [];
    const needed = new Set<string>();
    for (const epoch of epochs) {
      const names = await this.#durableNames(epoch).catch(() => undefined);
      if (names === undefined) return [];
      for (const { round, member } of names) needed.add(join(round, member));
    }
    return onDisk('tidy', this.directory, async () => {
      for (const name of await readdir(this.#catalogue.directory)) {
        if (name.endsWith('.tmp')) await rm(join(this.#catalogue.directory, name));
      }
      const removed: string[] = [];
      for (const round of await readdir(this.#rounds)) {
        const members = await readdir(join(this.#rounds, round));
        const unneeded = members.filter((member) => !needed.has(join(round, member)));
        for (const member of unneeded) {
          await rm(join(this.#rounds, round, member), { recursive: true, force: true });
          removed.push(join(round, member));
        }
        if (unneeded.length === members.length) await rm(join(this.#rounds, round), RECURSIVE);
      }
      return removed;
    });
  }

  /** Returns the memory that shadows take when they are fetched, bytes. */
  async contentBytes(names: readonly ShadowName[]): Promise<number> {
    const manifests = await Promise.all(names.map((name) => readDurable(this.#folder(name), name)));
    return sum(manifests.map(contentBytes));
  }

  /**
   * Lists the shadows of an epoch, bases first: they have to be in the store before it can be
   * restored.
   * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_MANIFEST_FEATURE
   */
  shadows(epoch: EpochManifest): Promise<ShadowName[]> {
    return this.#durableNames(epoch);
  }

  /** Fetches a shadow into a store: fetchShadow of this store. */
  fetch(name: ShadowName, target: string, onContent: (bytes: number) => void): Promise<void> {
    return fetchShadow(this.#folder(name), target, name, onContent);
  }

  /**
   * Reads every byte of an epoch on disk, and of the bases it refers to.
   * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION,
   * E_MANIFEST_FEATURE, E_DURABLE_IO
   */
  async verify(
    epoch: EpochManifest,
    onProgress: (progress: PersistProgress) => void,
  ): Promise<void> {
    const names = await this.#durableNames(epoch);
    const totalBytes = await this.contentBytes(names);
    let doneBytes = 0;
    for (const name of names) {
      await verifyDurable(this.#folder(name), name, (bytes) => {
        doneBytes += bytes;
        onProgress({ doneBytes, totalBytes });
      });
    }
  }

  #durableNames(epoch: EpochManifest): Promise<ShadowName[]> {
    return withBases(shadowsOf(epoch), async (name) => {
      return (await readDurable(this.#folder(name), name)).base;
    });
  }

  get #rounds(): string {
    return join(this.directory, 'rounds');
  }

  #folder({ round, member }: ShadowName): string {
    return join(this.#rounds, round, member);
  }
}

const RECURSIVE = { recursive: true, force: true } as const;

function stored({ files }: DurableManifest): number {
  return sum(files.map(({ footer }) => footer.containerBytes));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
