/**
 * Rounds whose folders in the store are being filled or read. They are not removed, whatever the
 * catalogue says, and no holes are punched into what is sealed there.
 */
/** The rounds in use in one store. */
export class RoundsInUse {
  /** The number of holders of each round. */
  readonly #holders = new Map<string, number>();

  /** Tells whether a round is held. */
  has(round: string): boolean {
    return this.#holders.has(round);
  }

  /** Adds holders of a round. */
  hold(round: string, holders = 1): void {
    this.#holders.set(round, (this.#holders.get(round) ?? 0) + holders);
  }

  /** Removes one holder of a round. */
  release(round: string): void {
    const others = (this.#holders.get(round) ?? 1) - 1;
    if (others > 0) this.#holders.set(round, others);
    else this.#holders.delete(round);
  }
}
