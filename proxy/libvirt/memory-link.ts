/**
 * Has the QEMU that libvirt is about to start map an image of ours as its memory.
 *
 *     libvirt   makes FOLDER/ID-NAME ─────────────── starts QEMU
 *     we              └─ watched: we add ALIAS ─▶ image   └─ opens ALIAS, which is ours, and maps it privately
 *
 * QEMU makes ALIAS itself if it is not there. So a link that comes late is refused and harms nobody; what
 * QEMU has mapped is looked up (`use`), while it waits for its stream, and decides what is sent to it.
 * Only the link is ever removed, by us or by libvirt with its folder: never the image.
 */
import { type FSWatcher, statSync, symlinkSync, unlinkSync, watch } from 'node:fs';
import { join } from 'node:path';
import { deviceOf, type MemoryRange, readMaps } from '../host/proc-maps.ts';
import type { LinkedMemory } from '../protocol/member.ts';
import { findDomainProcess } from './qemu-process.ts';

/** `private`: what is written to it is the VM's own. `other`: it has none of it mapped. */
export type ImageUse = 'private' | 'shared' | 'other' | 'unknown';

export class MemoryLink {
  readonly #memory: LinkedMemory;
  readonly #watcher: FSWatcher | undefined;
  #path: string | undefined;
  /** Why there is no link. */
  #why = 'libvirt made no folder for its memory';

  /** From now on, a folder that libvirt makes for the domain gets the link. */
  constructor(memory: LinkedMemory) {
    this.#memory = memory;
    try {
      this.#watcher = watch(memory.folder, (_, name) => this.#look(name ?? ''));
    } catch (error) {
      this.#why = `${memory.folder}: ${(error as NodeJS.ErrnoException).code}`;
    }
  }

  get why(): string {
    return this.#why;
  }

  #look(name: string): void {
    const { folder, name: domain, alias, image } = this.#memory;
    const [, rest] = /^\d+-(.+)$/.exec(name) ?? [];
    if (rest !== domain) return;
    const path = join(folder, name, alias);
    try {
      // libvirt makes it, and then gives it to whom QEMU runs as, which is told, too.
      const { uid } = statSync(join(folder, name));
      if (uid !== 0 && uid !== statSync(image).uid) {
        this.#why = `QEMU runs as user ${uid}, who may not open the image`;
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

  /** What the domain's QEMU, once it waits for its stream, does with the image. */
  use(): ImageUse {
    const { uuid, image, bytes } = this.#memory;
    try {
      const qemu = findDomainProcess(uuid);
      if (qemu === undefined) return 'unknown';
      return imageUse(readMaps(qemu.pid), statSync(image), bytes);
    } catch {
      return 'unknown'; // not ours to look at, or gone
    }
  }

  /** The image stays, and so does whoever has it mapped. Idempotent. */
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
