/**
 * Memory that was granted for filling a folder of the store, and that is not in the folder yet:
 *
 *     granted   ██████████████
 *     occupied  ██████          part of the memory that the kernel says is in use
 *     owed            ░░░░░░░░  still to be taken: it must not be granted again
 */
import { occupiedBytes } from '../../../shadow/index.ts';

/** The grants of one store. */
export class Grants {
  /** Bytes, by folder. */
  readonly #granted = new Map<string, number>();

  /** Grants bytes to a folder, until `end`. */
  grant(folder: string, bytes: number): void {
    this.#granted.set(folder, bytes);
  }

  /** Ends a grant: the folder takes no more from now on. Idempotent. */
  end(folder: string): void {
    this.#granted.delete(folder);
  }

  /**
   * Returns the bytes that are granted and not taken yet. Call this before measuring occupied
   * memory: bytes taken in between then count twice, which is safe.
   */
  async owedBytes(): Promise<number> {
    const owed = [...this.#granted].map(async ([folder, bytes]) => {
      return Math.max(0, bytes - (await occupiedBytes(folder)));
    });
    return (await Promise.all(owed)).reduce((sum, bytes) => sum + bytes, 0);
  }
}
