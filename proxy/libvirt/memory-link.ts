/**
 * Has a QEMU that libvirt is about to start map an image of the store as its memory.
 *
 *     libvirt   makes FOLDER/ID-NAME ──────────────── starts QEMU
 *     proxy          └─ adds the link ALIAS ─▶ image       └─ opens ALIAS, maps the image privately
 *
 * QEMU makes ALIAS itself if it is not there. So a link that comes late is refused, and does no
 * harm. While QEMU waits for its stream, the proxy looks up what QEMU has mapped (`use`), and that
 * decides what is sent. Only the link is ever removed, by the proxy or by libvirt with its folder:
 * never the image.
 */
import { type FSWatcher, statSync, symlinkSync, unlinkSync, watch } from 'node:fs';
import { join } from 'node:path';
import { deviceOf, type MemoryRange, readMaps } from '../host/proc-maps.ts';
import type { LinkedMemory } from '../protocol/member.ts';
import { findDomainProcess } from './qemu-process.ts';

/**
 * The way a process has an image mapped; `other` is not at all, `private` is with writes of its
 * own.
 */
export type ImageUse = 'private' | 'shared' | 'other' | 'unknown';

export class MemoryLink {
  readonly #memory: LinkedMemory;
  readonly #watcher: FSWatcher | undefined;
  #path: string | undefined;
  /** The reason why QEMU does not have the image. */
  #why = 'libvirt made no folder for its memory';

  /** Watches for the folder that libvirt makes for the domain, and puts the link there. */
  constructor(memory: LinkedMemory) {
    this.#memory = memory;
    try {
      this.#watcher = watch(memory.folder, (_, name) => this.#look(name ?? ''));
    } catch (error) {
      this.#why = `${memory.folder}: ${(error as NodeJS.ErrnoException).code}`;
    }
  }

  /** Returns why QEMU does not have the image. */
  get why(): string {
    return this.#why;
  }

  #look(name: string): void {
    const { folder, name: domain, alias, image } = this.#memory;
    const [, rest] = /^\d+-(.+)$/.exec(name) ?? [];
    if (rest !== domain) return;
    const path = join(folder, name, alias);
    try {
      // libvirt makes the folder, and then gives it to the user QEMU runs as: a second notice.
      const { uid } = statSync(join(folder, name));
      if (uid !== 0 && uid !== statSync(image).uid) {
        this.#why = `QEMU runs as user ${uid}, which may not open the image`;
        this.#unlink();
        return;
      }
      if (this.#path !== undefined) return;
      symlinkSync(image, path);
      this.#path = path;
      this.#why = 'QEMU has not taken the image';
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return; // the folder has just gone
      this.#why = code === 'EEXIST' ? 'QEMU was there before the image' : `${path}: ${code}`;
    }
  }

  /**
   * Returns how the domain's QEMU has the image mapped; to be called while it waits for its stream.
   */
  use(): ImageUse {
    const { uuid, image, bytes } = this.#memory;
    try {
      const qemu = findDomainProcess(uuid);
      if (qemu === undefined) return 'unknown';
      return imageUse(readMaps(qemu.pid), statSync(image), bytes);
    } catch {
      return 'unknown'; // the process has ended, or is not ours to look at
    }
  }

  /** Removes the link. The image stays, and so do its mappings. Idempotent. */
  remove(): void {
    this.#watcher?.close();
    this.#unlink();
  }

  #unlink(): void {
    if (this.#path === undefined) return;
    try {
      unlinkSync(this.#path);
    } catch {
      // libvirt has removed the folder
    }
    this.#path = undefined;
  }
}

/** Returns how a process has a file mapped; QEMU may have it in several pieces. PURE. */
export function imageUse(
  maps: readonly MemoryRange[],
  { dev, ino }: { readonly dev: number; readonly ino: number },
  bytes: number,
): ImageUse {
  const device = deviceOf(dev);
  const mapped = maps.filter((range) => range.device === device && range.inode === ino);
  if (mapped.some(({ isPrivate }) => !isPrivate)) return 'shared';
  const mappedBytes = mapped.reduce((sum, range) => sum + range.bytes, 0);
  if (mappedBytes === 0) return 'other';
  return mappedBytes >= bytes ? 'private' : 'unknown';
}
