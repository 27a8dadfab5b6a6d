/**
 * Holds of epochs: as long as an epoch is held, its files stay where they are, also while rounds
 * run. A clone is made of a held epoch, by the daemon of another cluster (client/epoch-hold.ts).
 */
import { randomBytes } from 'node:crypto';
import { UmbraError } from '../failure/failure.ts';
import type { Epochs } from './epochs/epochs.ts';
import type { EpochChoice } from './restores/epoch-choice.ts';
import type { Exclusive } from './rounds/exclusive.ts';

const ID_BYTES = 16;

export interface Hold {
  readonly id: string;
  readonly epoch: number;
  release(): void;
}

export class Holds {
  readonly #epochs: Epochs;
  readonly #choice: EpochChoice;
  readonly #exclusive: Exclusive;
  /** Functions that end a hold, by its id. */
  readonly #ends = new Map<string, () => void>();

  constructor(epochs: Epochs, choice: EpochChoice, exclusive: Exclusive) {
    this.#epochs = epochs;
    this.#choice = choice;
    this.#exclusive = exclusive;
  }

  /**
   * Holds an epoch until it is released, or the daemon ends.
   * @param epoch the newest if undefined
   * @param onEnd called when the daemon ends the hold
   * @throws UmbraError E_EPOCH_UNKNOWN, E_DAEMON_ENDING
   */
  async hold(epoch: number | undefined, onEnd: () => void): Promise<Hold> {
    this.#exclusive.requireGoingOn();
    const { held, release } = await this.#epochs.hold(() => this.#choice.inMemory(epoch));
    const id = randomBytes(ID_BYTES).toString('hex');
    const releaseIt = () => {
      this.#ends.delete(id);
      release();
    };
    this.#ends.set(id, () => {
      releaseIt();
      onEnd();
    });
    return { id, epoch: held.epoch, release: releaseIt };
  }

  /** Requires that a hold has not ended since it was made. @throws UmbraError E_HOLD_UNKNOWN */
  require(id: string): void {
    if (this.#ends.has(id)) return;
    throw new UmbraError({ code: 'E_HOLD_UNKNOWN', message: 'nothing is held by that name' });
  }

  /** Ends all holds, because the daemon ends. */
  endAll(): void {
    for (const end of [...this.#ends.values()]) end();
  }
}
