/**
 * Chooses the epoch that a restore takes, and where from. For a damaged epoch it names others that
 * can be restored instead. Going back further than asked loses work: the operator decides.
 */
import {
  type Catalogue,
  type EpochManifest,
  isOfAnotherUmbra,
  ShadowError,
} from '../../../shadow/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';
import type { RestoreOptions } from '../../protocol/operator.ts';
import type { Persister } from '../durable/persister.ts';
import type { Epochs } from '../epochs/epochs.ts';

export interface ChosenEpoch {
  readonly manifest: EpochManifest;
  /** True if it must be fetched from disk first. */
  readonly fetch: boolean;
}

export class EpochChoice {
  readonly #catalogue: Catalogue;
  readonly #epochs: Epochs;
  readonly #persister: Persister | undefined;

  constructor(catalogue: Catalogue, epochs: Epochs, persister: Persister | undefined) {
    this.#catalogue = catalogue;
    this.#epochs = epochs;
    this.#persister = persister;
  }

  /**
   * @param wanted the newest if undefined
   * @throws UmbraError E_EPOCH_UNKNOWN, or what is wrong with it
   */
  async choose(wanted: number | undefined, from: RestoreOptions['from']): Promise<ChosenEpoch> {
    const epoch = wanted ?? (await this.#newest());
    const found = from === 'disk' ? undefined : await this.#read(epoch);
    if (found !== undefined && !(found instanceof ShadowError)) {
      return { manifest: found, fetch: false };
    }
    const manifest = this.#onDisk(epoch);
    if (manifest !== undefined) return { manifest, fetch: true };
    const message = `epoch ${epoch} is not on disk`;
    throw found ?? new UmbraError({ code: 'E_EPOCH_UNKNOWN', message });
  }

  /** Reads one manifest only, because a restore waits. @returns an error if it is not in memory */
  async #read(epoch: number): Promise<EpochManifest | ShadowError> {
    try {
      return await this.#catalogue.read(epoch);
    } catch (error) {
      if (error instanceof ShadowError && error.code === 'E_EPOCH_UNKNOWN') return error;
      throw error;
    }
  }

  /** @throws UmbraError E_EPOCH_UNKNOWN also when it is on disk only */
  async inMemory(wanted: number | undefined): Promise<EpochManifest> {
    const { manifest, fetch } = await this.choose(wanted, 'auto');
    if (!fetch) return manifest;
    const message = `epoch ${manifest.epoch} is on disk only`;
    const hint = `Bring it to memory first: umbra restore ${manifest.epoch}`;
    throw new UmbraError({ code: 'E_EPOCH_UNKNOWN', message, hint });
  }

  /** Returns the error to report; for a damaged epoch, with the epochs that are whole. */
  async offerAnother(epoch: number, error: unknown): Promise<UmbraError> {
    const failure = toFailure(error, { where: 'restore' });
    const damaged = failure.code === 'E_EPOCH_CORRUPT' || failure.code.startsWith('E_MANIFEST');
    if (!damaged) return UmbraError.received(failure, error);
    const epochs = await this.#epochs.list();
    const copy = epochs.find((one) => one.epoch === epoch && one.inMemory && one.onDisk);
    const previous = await this.#wholeBefore(epoch);
    const offers = [
      ...(copy === undefined ? [] : [`its copy on disk: umbra restore ${epoch} --from disk`]),
      ...(previous === undefined
        ? []
        : [`the newest before it that is whole: umbra restore ${previous}`]),
    ];
    const offer = offers.length === 0 ? 'no other epoch is whole.' : offers.join('; or ');
    const why = isOfAnotherUmbra(failure) ? 'is of another version of Umbra' : 'is damaged';
    return UmbraError.received({ ...failure, hint: `Epoch ${epoch} ${why}; ${offer}` }, error);
  }

  #onDisk(epoch: number): EpochManifest | undefined {
    try {
      return this.#persister?.find(epoch);
    } catch (error) {
      throw UmbraError.received(toFailure(error, { where: 'restore' }), error);
    }
  }

  async #newest(): Promise<number> {
    const newest = (await this.#epochs.list()).at(-1);
    if (newest === undefined) {
      const hint = 'Take one first: umbra checkpoint';
      throw new UmbraError({ code: 'E_EPOCH_UNKNOWN', message: 'there is no epoch yet', hint });
    }
    if (newest.failure === undefined) return newest.epoch;
    throw await this.offerAnother(newest.epoch, UmbraError.received(newest.failure));
  }

  /**
   * Finds the newest older epoch that is whole. Epochs may share a damaged base: each is verified.
   */
  async #wholeBefore(epoch: number): Promise<number | undefined> {
    const epochs = await this.#epochs.list();
    for (const one of epochs.filter((other) => other.epoch < epoch).reverse()) {
      if (one.failure !== undefined) continue;
      if (!one.inMemory) return one.epoch; // fetching it says whether it is
      const isWhole = await this.#epochs.verify(one.epoch, 'changed').then(
        () => true,
        () => false,
      );
      if (isWhole) return one.epoch;
    }
    return undefined;
  }
}
