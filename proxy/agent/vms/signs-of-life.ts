/**
 * Is a proxy there that owes us an answer? It is asked for a sign of life now and then, and given up when
 * so many have stayed away in a row. They are counted, and no time is taken: had we been frozen ourselves,
 * we would ask late and once, while its answers lie there to be read. PURE.
 */

export const ASK_EVERY_MS = 1_000;
export const UNANSWERED_MAX = 20;

export class SignsOfLife {
  #unanswered = 0;

  /** @returns false if it is to be asked no more */
  ask(): boolean {
    if (this.#unanswered === UNANSWERED_MAX) return false;
    this.#unanswered++;
    return true;
  }

  /** Whatever it said. */
  heard(): void {
    this.#unanswered = 0;
  }
}
