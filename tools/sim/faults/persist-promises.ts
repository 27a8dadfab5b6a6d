/**
 * Promises about epochs on disk, whatever goes wrong:
 *
 *     whole      an epoch that is listed on disk is all there, and is the memory of its cut
 *     commit     before-commit: no epoch is committed that is not listed on disk
 *     read       no committed epoch is retired from memory while it is being brought to disk
 *     aborted    an epoch whose round was aborted is not on disk, unless the daemon died meanwhile
 *     alone      one request at a time is under way at the disk
 *     blocked    a hung disk blocks only what needs it, and that no longer than its limit
 *     removed    an epoch whose removal was acknowledged is on disk no more
 *     pinned     an epoch whose pin was acknowledged stays on disk until it is unpinned or removed
 *     given up   an epoch is given up only if it cannot be read
 *     at last    when nothing goes wrong any more, all that is wanted gets to disk
 */
import type { EpochManifest } from '../../../shadow/index.ts';
import { type ModelledDisk, nameOf } from './persist-disk.ts';

export class PersistPromises {
  readonly violations: string[] = [];
  readonly #disk: ModelledDisk;
  readonly #now: () => number;
  /** Memory at each epoch's cut, by name. */
  readonly #contents = new Map<string, number>();
  readonly #removed = new Set<string>();
  readonly #pinned = new Set<string>();
  readonly #aborted = new Set<string>();

  constructor(disk: ModelledDisk, now: () => number) {
    this.#disk = disk;
    this.#now = now;
  }

  broken(what: string): void {
    this.violations.push(`${this.#now().toFixed(0)} ms: ${what}`);
  }

  cut(epoch: EpochManifest, content: number): void {
    this.#contents.set(nameOf(epoch), content);
  }

  committed(epoch: EpochManifest, beforeCommit: boolean): void {
    if (!beforeCommit) return;
    const named = this.#disk.names.get(epoch.epoch);
    const isThere = named?.synced === true && nameOf(named.manifest) === nameOf(epoch);
    if (!isThere) this.broken(`commit: epoch ${epoch.epoch} is committed, and not on disk`);
  }

  /** @param isRead a job reads its shadows */
  retired(epoch: EpochManifest, isRead: boolean): void {
    if (isRead) this.broken(`read: epoch ${epoch.epoch} is retired while it is brought to disk`);
  }

  /** Notes that the list is asked for, or changed. */
  asked(isWriting: boolean): void {
    if (isWriting) this.broken('alone: the list is asked for while a job writes to the disk');
  }

  /** Notes that a round was aborted: its epoch must not be on disk. */
  aborted(epoch: EpochManifest): void {
    this.#aborted.add(nameOf(epoch));
  }

  /** Forgets epochs the daemon was still to remove: no process knows of them any more. */
  daemonDied(): void {
    this.#aborted.clear();
  }

  /** Notes how long a caller has waited. @param limitMs for how long it may */
  waited(what: string, ms: number, limitMs: number): void {
    if (ms <= limitMs) return;
    this.broken(`blocked: ${what} took ${ms.toFixed(0)} of ${limitMs} ms`);
  }

  removed(epoch: EpochManifest): void {
    this.#removed.add(nameOf(epoch));
    this.#pinned.delete(nameOf(epoch));
    this.look();
  }

  pinned(epoch: EpochManifest, pinned: boolean): void {
    if (pinned) this.#pinned.add(nameOf(epoch));
    else this.#pinned.delete(nameOf(epoch));
  }

  givenUp(name: string, isReadable: boolean): void {
    if (isReadable) this.broken(`given up: epoch ${name} can be read`);
  }

  /** Looks through all that is listed. */
  look(): void {
    const listed = new Set<string>();
    for (const { manifest } of this.#disk.names.values()) {
      const name = nameOf(manifest);
      listed.add(name);
      const content = this.#contents.get(name);
      if (content === undefined || !this.#disk.isWhole(manifest, content)) {
        this.broken(`whole: epoch ${manifest.epoch} is listed on disk, and not whole`);
      }
    }
    for (const name of this.#pinned) {
      if (!listed.has(name)) this.broken(`pinned: epoch ${name} is gone from disk`);
    }
  }

  /** @param wanted what should be on disk by now */
  atEnd(wanted: readonly EpochManifest[]): void {
    this.look();
    for (const { manifest } of this.#disk.names.values()) {
      if (this.#removed.has(nameOf(manifest))) {
        this.broken(`removed: epoch ${manifest.epoch} is on disk again`);
      }
      if (this.#aborted.has(nameOf(manifest))) {
        this.broken(`aborted: epoch ${manifest.epoch} is on disk, and its round was aborted`);
      }
    }
    for (const epoch of wanted) {
      const there = this.#disk.names.get(epoch.epoch)?.manifest;
      if (there === undefined || nameOf(there) !== nameOf(epoch)) {
        this.broken(`at last: epoch ${epoch.epoch} does not get to disk any more`);
      }
    }
  }
}
