/**
 * Remembers what was read of files, for as long as stat(2) says that they are as they were: inode,
 * length, time of modification and of change. A small file that is read every round costs a stat.
 */
import { type BigIntStats, statSync } from 'node:fs';

export class Remembered<T> {
  readonly #known = new Map<string, { readonly stamp: string; readonly value: T }>();

  /**
   * Returns what `read` has returned for this file, or calls it.
   * @throws what `read` throws, and then nothing is remembered
   */
  of(path: string, read: () => T): T {
    const stamp = stampOf(path);
    const known = this.#known.get(path);
    if (known !== undefined && known.stamp === stamp) return known.value;
    this.#known.delete(path);
    const value = read();
    if (stamp !== undefined) this.#known.set(path, { stamp, value });
    return value;
  }

  /** Forgets all files but these. */
  keep(paths: ReadonlySet<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path);
  }
}

function stampOf(path: string): string | undefined {
  const stats: BigIntStats | undefined = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats && [stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(' ');
}
