/**
 * The list of epochs on disk: asked for, and changed, under a lock of that folder. It may block on
 * the disk, so it runs in a process of its own (list-process.ts).
 */
import { DurableStore } from '../../../shadow/durable/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import { type Lock, lockCluster } from '../../host/lock.ts';
import type { DurableList, DurableRequest } from '../../protocol/agent.ts';
import type { DurableLocation } from '../../protocol/durable.ts';

export class DurableListKeeper {
  readonly #location: DurableLocation;
  readonly #store: DurableStore;
  readonly #onStep: (step: string) => void;
  #lock: Lock | undefined;

  constructor(location: DurableLocation, onStep: (step: string) => void) {
    this.#location = location;
    this.#store = new DurableStore(location.directory, location.cluster);
    this.#onStep = onStep;
  }

  /**
   * Carries a request out, and returns the list as it is then.
   * @throws UmbraError E_DURABLE_BUSY; ShadowError E_DURABLE_IO, E_DURABLE_NO_ROOM, E_EPOCH_EXISTS
   */
  async answer(request: DurableRequest): Promise<DurableList> {
    // The folder may have been emptied since.
    if (request.type === 'look' || this.#lock === undefined) await this.#store.prepare();
    this.#lock ??= this.#lockDisk();
    if (request.type === 'publish') await this.#store.publish(request.epoch, this.#onStep);
    if (request.type === 'retire') await this.#store.retire(request.epochs, this.#onStep);
    if (request.type === 'pin') await this.#store.pin(request.epoch, request.pinned);
    if (request.type === 'collect') await this.#store.collect();
    const { epochs, damaged } = await this.#store.list();
    return {
      epochs,
      damaged: damaged.map(({ epoch, error }) => ({ epoch, failure: toFailure(error, {}) })),
      pinned: await this.#store.pinned(),
      nextEpoch: await this.#store.nextEpoch(),
      doubt: await this.#store.doubt(this.#location.shadowsDirectory),
    };
  }

  /** Gives the lock up; the next request takes it again. */
  release(): void {
    this.#lock?.release();
    this.#lock = undefined;
  }

  #lockDisk(): Lock {
    const { directory, cluster } = this.#location;
    try {
      return lockCluster(directory, cluster);
    } catch (error) {
      if (toFailure(error, {}).code !== 'E_DAEMON_RUNS') throw error;
      const message = `another daemon persists cluster ${cluster} to ${directory}`;
      throw new UmbraError({ code: 'E_DURABLE_BUSY', message }, error);
    }
  }
}
