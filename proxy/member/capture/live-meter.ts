/**
 * What is known of a member while it streams: QEMU's passes, its own view of what is left, counters.
 *
 * What a pass has found dirty is known only in the instant it begins, before it is sent; QEMU is asked
 * right then, with the stream held.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { StreamIntake } from '../../intake/stream-intake.ts';
import type { MemberSample } from '../../protocol/member.ts';

/** Between two passes; shorter times are those of QEMU's loop, not of the guest. */
const TELLING_MS = 50;

export class LiveMeter {
  /** The member has no live phase. */
  waits = false;
  #passes = 0;
  #passAtMs = 0;
  #passBytes: number | undefined;
  #sincePassMs = 0;
  #dirtyRate = 0;
  #asking: Promise<void> | undefined;
  #remainingBytes: number | undefined;
  #dirtyBytesPerSecond: number | undefined;

  /** QEMU's passes over dirty memory, from its MIGRATION_PASS events. */
  get passes(): number {
    return this.#passes;
  }

  /** Bytes the present pass found dirty; undefined until QEMU has said. */
  get passBytes(): number | undefined {
    return this.#passBytes;
  }

  /** Dirty and unsent, bytes; undefined until QEMU has said. */
  get remainingBytes(): number | undefined {
    return this.#remainingBytes;
  }

  /** Bytes a second that passes far enough apart to tell have found dirty. */
  get dirtyRate(): number {
    return this.#dirtyRate;
  }

  onPass(pass: number): void {
    this.#passes = pass;
    const now = performance.now();
    this.#sincePassMs = now - this.#passAtMs;
    this.#passAtMs = now;
    this.#passBytes = undefined;
  }

  /** Asks QEMU what is left, after any question that is still open. Never rejects. */
  async ask(qmp: QmpClient): Promise<void> {
    await this.#asking;
    this.#asking ??= this.#query(qmp).finally(() => {
      this.#asking = undefined;
    });
    await this.#asking;
  }

  async #query(qmp: QmpClient): Promise<void> {
    const pass = this.#passes;
    try {
      const { ram } = await qmp.execute('query-migrate');
      if (ram === undefined) return;
      this.#remainingBytes = ram.remaining;
      if (pass === this.#passes && pass >= 2 && this.#passBytes === undefined) {
        this.#passBytes = ram.remaining;
        if (this.#sincePassMs >= TELLING_MS) {
          this.#dirtyRate = (ram.remaining / this.#sincePassMs) * 1000;
        }
      }
      const rate = ram['dirty-pages-rate'] * ram['page-size'];
      this.#dirtyBytesPerSecond = pass >= 2 ? rate : undefined;
    } catch {
      // The monitor tells of its own end elsewhere; without an answer nothing is predicted.
    }
  }

  sample(intake: StreamIntake | undefined): MemberSample {
    const { counters, sink, readBytes = 0, clock } = intake ?? {};
    return {
      atMs: performance.now(),
      bytes: readBytes,
      flowedMs: clock?.flowedMs ?? 0,
      seenPages: sink?.seenPages ?? 0,
      totalPages: sink?.totalPages ?? 0,
      normalPages: counters?.normalPages ?? 0,
      zeroPages: counters?.zeroPages ?? 0,
      passes: this.#passes,
      passAtMs: this.#passAtMs,
      waits: this.waits,
      keptBack: intake?.keptBack ?? false,
      remainingBytes: this.#remainingBytes,
      passBytes: this.#passBytes,
      dirtyBytesPerSecond: this.#dirtyBytesPerSecond,
    };
  }
}
