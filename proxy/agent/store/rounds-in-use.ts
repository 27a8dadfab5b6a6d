/**
 * Rounds whose folders in the store somebody fills or reads: they stay, whatever the catalogue says, and no
 * holes are punched in what is sealed there.
 */
export class RoundsInUse {
  /** How many hold each. */
  readonly #holders = new Map<string, number>();

  has(round: string): boolean {
    return this.#holders.has(round);
  }

  hold(round: string, holders = 1): void {
    this.#holders.set(round, (this.#holders.get(round) ?? 0) + holders);
  }

  /** One of its holders lets go. */
  release(round: string): void {
    const others = (this.#holders.get(round) ?? 1) - 1;
    if (others > 0) this.#holders.set(round, others);
    else this.#holders.delete(round);
  }
}
