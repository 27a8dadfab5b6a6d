/**
 * Keeps what is known of a member while it streams: QEMU's passes and QEMU's view of what is left.
 * PURE: the time comes in, and so do QEMU's events and answers.
 *
 * What a pass has found dirty is known only in the instant it begins, before it is sent. QEMU is
 * therefore asked right then, with the stream held (pacing.ts).
 */
import type { StreamFigures } from '../../intake/stream-intake.ts';
import type { MemberSample } from '../../protocol/member.ts';

/** The interval between two samples of a member, milliseconds. */
export const SAMPLE_INTERVAL_MS = 100;
/** The shortest time between two passes that says something of the guest, milliseconds. */
const TELLING_MS = 50;

/** QEMU's answer to `query-migrate`, as far as it matters here. */
export interface RamStatus {
  /** Dirty and unsent, bytes. */
  readonly remainingBytes: number;
  /** Bytes a second that the guest dirties, by QEMU's own measure; undefined if it has none. */
  readonly dirtyBytesPerSecond: number | undefined;
}

const NOTHING_READ: StreamFigures = {
  bytes: 0,
  flowedMs: 0,
  seenPages: 0,
  totalPages: 0,
  normalPages: 0,
  zeroPages: 0,
  keptBack: false,
};

export class LiveMeter {
  readonly #now: () => number;
  #passes = 0;
  #passAtMs = 0;
  #passBytes: number | undefined;
  #sincePassMs = 0;
  #dirtyRate = 0;
  #remainingBytes: number | undefined;
  #dirtyBytesPerSecond: number | undefined;

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Returns the number of QEMU's passes over dirty memory, from its MIGRATION_PASS events. */
  get passes(): number {
    return this.#passes;
  }

  /** Returns the bytes that the present pass found dirty; undefined until QEMU has said. */
  get passBytes(): number | undefined {
    return this.#passBytes;
  }

  /** Returns the bytes that are dirty and unsent; undefined until QEMU has said. */
  get remainingBytes(): number | undefined {
    return this.#remainingBytes;
  }

  /** Returns the bytes a second found dirty by the last pass that was long enough to tell. */
  get dirtyRate(): number {
    return this.#dirtyRate;
  }

  /** Notes that QEMU begins a pass. @param pass its number, from 1 on */
  onPass(pass: number): void {
    this.#passes = pass;
    const now = this.#now();
    this.#sincePassMs = now - this.#passAtMs;
    this.#passAtMs = now;
    this.#passBytes = undefined;
  }

  /** Notes QEMU's answer. @param pass the pass that was under way when QEMU was asked */
  onAnswer(pass: number, { remainingBytes, dirtyBytesPerSecond }: RamStatus): void {
    this.#remainingBytes = remainingBytes;
    if (pass === this.#passes && pass >= 2 && this.#passBytes === undefined) {
      this.#passBytes = remainingBytes;
      if (this.#sincePassMs >= TELLING_MS) {
        this.#dirtyRate = (remainingBytes / this.#sincePassMs) * 1000;
      }
    }
    this.#dirtyBytesPerSecond = pass >= 2 ? dirtyBytesPerSecond : undefined;
  }

  /**
   * Returns a sample of the present.
   * @param stream undefined before there is one
   * @param waits the member has no live phase: it is only copied once it is stopped
   */
  sample(stream: StreamFigures | undefined, waits: boolean): MemberSample {
    const read = stream ?? NOTHING_READ;
    // Field by field: a spread here takes the simulator as much time as all the rest.
    return {
      atMs: this.#now(),
      bytes: read.bytes,
      flowedMs: read.flowedMs,
      seenPages: read.seenPages,
      totalPages: read.totalPages,
      normalPages: read.normalPages,
      zeroPages: read.zeroPages,
      passes: this.#passes,
      passAtMs: this.#passAtMs,
      waits,
      keptBack: read.keptBack,
      remainingBytes: this.#remainingBytes,
      passBytes: this.#passBytes,
      dirtyBytesPerSecond: this.#dirtyBytesPerSecond,
    };
  }
}
