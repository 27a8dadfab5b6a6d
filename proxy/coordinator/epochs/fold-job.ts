/**
 * Folds epochs in the background: one that differs much from its base is written anew, in full.
 *
 *     share > foldAt ──▶ wait until nothing else goes on ──▶ admit
 *                    ──▶ fold ──▶ wait for that again, and until the epoch is not held ──▶ rename
 *                          └─────────────── end: what was staged is collected
 *
 * A damaged epoch is not folded: it stays as it was, and `verify` and restores report it. A fold
 * occupies the cluster only for an instant, to be admitted and to be named. So a round and a fold
 * are never admitted to the same memory.
 */
import type { Logger } from 'pino';
import type { Catalogue, EpochManifest } from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import type { Agent } from '../../protocol/agent.ts';
import type { StoreConfig } from '../../protocol/cluster.ts';
import type { Exclusive } from '../rounds/exclusive.ts';
import type { Epochs } from './epochs.ts';

export class FoldJob {
  readonly #store: Pick<StoreConfig, 'foldAt'>;
  readonly #agent: Agent;
  readonly #catalogue: Catalogue;
  readonly #epochs: Epochs;
  readonly #exclusive: Exclusive;
  readonly #log: Logger;
  #folding: { readonly end: AbortController; readonly done: Promise<void> } | undefined;

  constructor(
    store: Pick<StoreConfig, 'foldAt'>,
    agent: Agent,
    catalogue: Catalogue,
    epochs: Epochs,
    exclusive: Exclusive,
    log: Logger,
  ) {
    this.#store = store;
    this.#agent = agent;
    this.#catalogue = catalogue;
    this.#epochs = epochs;
    this.#exclusive = exclusive;
    this.#log = log;
  }

  /**
   * Folds an epoch if it is worth it, and no other is being folded.
   * @param round the folder its new shadows go to
   */
  async foldIfLarge(number: number, round: string): Promise<void> {
    if (this.#folding !== undefined) return;
    const share = await this.#agent.deltaShare(await this.#catalogue.read(number));
    if (share <= this.#store.foldAt || this.#folding !== undefined) return;
    const end = new AbortController();
    this.#log.info({ epoch: number, share, round }, 'folding');
    const done = this.#fold(number, round, end.signal);
    this.#folding = { end, done };
    try {
      await done;
      this.#log.info({ epoch: number, round }, 'folded');
    } catch (error) {
      const failure = toFailure(error, { where: 'fold' });
      if (failure.code !== 'E_EPOCH_CORRUPT') throw error;
      this.#log.error({ epoch: number, failure }, 'an epoch is damaged: it was not folded');
    } finally {
      this.#folding = undefined;
    }
  }

  /** Resolves when nothing is being folded any more. */
  async end(): Promise<void> {
    this.#folding?.end.abort(new UmbraError({ code: 'E_DAEMON_ENDING', message: 'ending' }));
    await this.#folding?.done.catch(() => {}); // foldIfLarge reports it
  }

  async #fold(number: number, round: string, signal: AbortSignal): Promise<void> {
    const { epoch, folding } = await this.#exclusive.brief('fold', async () => {
      const epoch = await this.#catalogue.read(number); // it may have been retired meanwhile
      return { epoch, folding: await this.#agent.beginFold(epoch, round, signal) };
    });
    const members = await folding.members;
    try {
      await this.#rename({ ...epoch, round, members });
    } finally {
      this.#agent.endRound(round);
      await this.#agent.collect('recycle');
    }
  }

  /** Publishes an epoch's new shadows when the cluster is free, and the old ones are not held. */
  async #rename(folded: EpochManifest): Promise<void> {
    do await this.#epochs.unheld(folded.epoch);
    while (!(await this.#exclusive.brief('fold', () => this.#epochs.replace(folded))));
  }
}
