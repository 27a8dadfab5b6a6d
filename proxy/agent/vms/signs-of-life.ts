/**
 * Decides when a proxy that owes an answer is given up. It is asked for a sign of life every
 * second, and given up after 20 questions in a row without any answer. PURE.
 *
 * Questions are counted, and no time is measured. If the agent itself has been frozen, it asks late
 * and once, and the proxy's answers are already there to be read.
 */

export const ASK_EVERY_MS = 1_000;
export const UNANSWERED_MAX = 20;

/** The signs of life of one proxy. */
export class SignsOfLife {
  #unanswered = 0;

  /** Counts a question. @returns false if the proxy is given up, and must not be asked again */
  ask(): boolean {
    if (this.#unanswered === UNANSWERED_MAX) return false;
    this.#unanswered++;
    return true;
  }

  /** Notes that the proxy has said something. */
  heard(): void {
    this.#unanswered = 0;
  }
}
