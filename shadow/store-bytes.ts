/**
 * Memory that a store occupies, by the kernel's count, measured every round. A link that is sealed
 * stays as it is, and there may be hundreds: each is measured once, for as long as its folder is as
 * it was. A full image may gain memory where a VM has it mapped, and is looked at each time.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { STAT_BLOCK_BYTES } from './libc.ts';
import { imageKindOf, isRoundName, SHADOW_FILE } from './names.ts';
import { Remembered } from './remembered.ts';
import { occupiedBytes } from './room.ts';

export class StoreBytes {
  readonly #shadows: string;
  readonly #links = new Remembered<number>();

  /** @param shadowsDirectory the store's folder of rounds */
  constructor(shadowsDirectory: string) {
    this.#shadows = shadowsDirectory;
  }

  /** Measures the memory that all files of the store occupy, bytes. */
  async measure(): Promise<number> {
    let bytes = 0;
    const links = new Set<string>();
    for (const name of list(this.#shadows)) {
      const folder = join(this.#shadows, name);
      const members = isRoundName(name) ? list(folder).map((member) => join(folder, member)) : [];
      if (members.length === 0 || !members.every(isSealedLink)) {
        bytes += await occupiedBytes(folder);
        continue;
      }
      for (const member of members) {
        links.add(member);
        bytes += this.#links.of(member, () => filesIn(member));
      }
    }
    this.#links.keep(links);
    return bytes;
  }
}

/** Lists a folder; one that is gone has nothing. */
function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isSealedLink(folder: string): boolean {
  const names = list(folder);
  return names.includes(SHADOW_FILE) && !names.some((name) => imageKindOf(name) === 'full');
}

function filesIn(folder: string): number {
  return list(folder).reduce((sum, name) => {
    const stats = statSync(join(folder, name), { throwIfNoEntry: false });
    return sum + (stats?.blocks ?? 0) * STAT_BLOCK_BYTES;
  }, 0);
}
