/** What is known of a member while it streams: passes, QEMU's own view of what is left, counters. */
import type { QmpClient } from '../../qmp/index.ts';
import type { MemberSample } from './messages.ts';
import type { StreamIntake } from './stream-intake.ts';

export class LiveMeter {
  /** QEMU's passes over dirty memory, from its MIGRATION_PASS events. */
  passes = 0;
  /** The member has no live phase. */
  waits = false;
  #asking = false;
  #remainingBytes: number | undefined;
  #dirtyBytesPerSecond: number | undefined;

  /** Asks QEMU what is left. It is asked again only when it has answered. */
  async ask(qmp: QmpClient): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const { ram } = await qmp.execute('query-migrate');
      if (ram === undefined) return;
      this.#remainingBytes = ram.remaining;
      const rate = ram['dirty-pages-rate'] * ram['page-size'];
      this.#dirtyBytesPerSecond = this.passes >= 2 ? rate : undefined;
    } catch {
      // The monitor tells of its own end elsewhere; without an answer nothing is predicted.
    } finally {
      this.#asking = false;
    }
  }

  sample(intake: StreamIntake | undefined): MemberSample {
    const { counters, sink, position = 0 } = intake ?? {};
    return {
      bytes: position,
      seenPages: sink?.seenPages ?? 0,
      totalPages: sink?.totalPages ?? 0,
      normalPages: counters?.normalPages ?? 0,
      zeroPages: counters?.zeroPages ?? 0,
      passes: this.passes,
      waits: this.waits,
      remainingBytes: this.#remainingBytes,
      dirtyBytesPerSecond: this.#dirtyBytesPerSecond,
    };
  }
}
