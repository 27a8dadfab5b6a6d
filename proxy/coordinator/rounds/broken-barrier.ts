/**
 * A round whose barrier is broken on purpose (../broken.ts): each member passes as soon as it has
 * stopped. What it reports from beyond the barrier is kept from the round until all have stopped, for
 * round.ts knows of no such thing, and is to be the same code whether anything is broken or not.
 *
 *     member ── stopped ──▶ round          member ── resumed, sealed ──▶ kept
 *            ◀── barrier ── here                            kept ── all have stopped ──▶ round
 */
import { DRAINING, type Round, type RoundEvent } from './round.ts';

type Report = RoundEvent & { readonly type: 'report' };

const BEYOND: ReadonlySet<string> = new Set(['resumed', 'sealed']);

export class BrokenBarrier {
  readonly #letPass: (member: string) => void;
  readonly #kept: Report[] = [];

  /** @param letPass sends `barrier` to one member */
  constructor(letPass: (member: string) => void) {
    this.#letPass = letPass;
  }

  /** Is this report for later? A member that has stopped is let past at once. */
  keeps(report: Report, round: Round | undefined): boolean {
    if (report.report === 'stopped') this.#letPass(report.member);
    const early = BEYOND.has(report.report) && (round?.state ?? 0) < DRAINING;
    if (early) this.#kept.push(report);
    return early;
  }

  /** What was kept, once the round stands beyond the barrier. */
  release(round: Round | undefined): Report[] {
    return (round?.state ?? 0) < DRAINING ? [] : this.#kept.splice(0);
  }
}
