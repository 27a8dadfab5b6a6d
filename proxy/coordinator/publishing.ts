/**
 * The instant an epoch comes to be: its number, and where it is listed first.
 *
 *     persist.mode background      memory ──▶ committed ──(later, persister)──▶ disk
 *     persist.mode before-commit   disk ──▶ memory ──▶ committed
 */
import type { Logger } from 'pino';
import type { Catalogue, EpochManifest } from '../../shadow/index.ts';
import type { PersistConfig } from '../protocol/cluster.ts';
import type { Persister } from './durable/persister.ts';

export class Publishing {
  readonly #catalogue: Catalogue;
  readonly #persister: Persister | undefined;
  readonly #persist: Pick<PersistConfig, 'mode'> | undefined;
  readonly #log: Logger;

  /** @param persister undefined without a durable tier */
  constructor(
    catalogue: Catalogue,
    persister: Persister | undefined,
    persist: Pick<PersistConfig, 'mode'> | undefined,
    log: Logger,
  ) {
    this.#catalogue = catalogue;
    this.#persister = persister;
    this.#persist = persist;
    this.#log = log;
  }

  get #diskFirst(): boolean {
    return this.#persist?.mode === 'before-commit';
  }

  /** Refuses a round whose epoch could not be published. @throws UmbraError E_DURABLE_SILENT */
  requirePossible(): void {
    if (this.#diskFirst) this.#persister?.requireAnswer();
  }

  /** @throws UmbraError E_DURABLE_SILENT when only the disk knows which numbers were used */
  async nextEpoch(): Promise<number> {
    const inMemory = await this.#catalogue.nextEpoch();
    if (inMemory === 1) this.#persister?.requireAnswer();
    return Math.max(inMemory, this.#persister?.nextEpoch ?? 1);
  }

  /**
   * Lists an epoch: where it is configured so, on disk first, because a listed epoch then survives
   * the loss of all memory.
   * @throws UmbraError, ShadowError: it is listed nowhere
   */
  async publish(manifest: EpochManifest): Promise<void> {
    if (!this.#diskFirst) return this.#catalogue.publish(manifest);
    await this.#persister?.beforeCommit(manifest);
    try {
      await this.#catalogue.publish(manifest);
    } catch (error) {
      await this.#persister?.remove(manifest.epoch).catch((err: unknown) => {
        this.#log.error({ err }, 'an epoch that was not committed is still on disk');
      });
      throw error;
    }
  }
}
