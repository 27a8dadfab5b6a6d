/**
 * Memory that was granted to whoever fills a folder of the store, and that is not in it yet:
 *
 *     granted   ██████████████
 *     occupied  ██████          by the kernel's account: whoever asks what there is sees it
 *     owed            ░░░░░░░░  it will be taken: nobody else may have it
 */
import { occupiedBytes } from '../../../shadow/index.ts';

export class Grants {
  /** Bytes, by folder. */
  readonly #granted = new Map<string, number>();

  grant(folder: string, bytes: number): void {
    this.#granted.set(folder, bytes);
  }

  /** It takes no more from here on, well or not. Idempotent. */
  end(folder: string): void {
    this.#granted.delete(folder);
  }

  /** To be asked before what there is: what is taken in between counts twice then, else not at all. */
  async owedBytes(): Promise<number> {
    const owed = [...this.#granted].map(async ([folder, bytes]) => {
      return Math.max(0, bytes - (await occupiedBytes(folder)));
    });
    return (await Promise.all(owed)).reduce((sum, bytes) => sum + bytes, 0);
  }
}
