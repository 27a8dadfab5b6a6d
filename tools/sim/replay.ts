/**
 * Records what the coordinator was told in a round, and runs its own code on that again: the round
 * machine and the live phase without the simulator, to measure their cost.
 *
 * Samples are kept as plain numbers. The garbage collector would walk a million unused objects
 * again and again, and that would be measured instead.
 */
import type { LivePhase, LiveSample } from '../../policies/index.ts';
import { begin, type Round, type RoundEvent, step } from '../../proxy/coordinator/rounds/round.ts';

/** A live phase, or a policy under trial in its stead. */
export type LiveDecider = Pick<LivePhase, 'observe' | 'tick'>;

export type Call =
  | { readonly kind: 'observe'; readonly member: string; readonly sample: LiveSample }
  | { readonly kind: 'tick'; readonly elapsedMs: number }
  | { readonly kind: 'step'; readonly event: RoundEvent };

const OBSERVE = 0;
const LOOK = 1;
const STEP = 2;
const FIRST_LENGTH = 1024;

/** Calls in the order they were made. */
export class Recording {
  readonly #members: readonly string[];
  readonly #indexes: ReadonlyMap<string, number>;
  readonly #events: RoundEvent[] = [];
  #numbers = new Float64Array(FIRST_LENGTH);
  #length = 0;

  constructor(members: readonly string[]) {
    this.#members = members;
    this.#indexes = new Map(members.map((name, index) => [name, index]));
  }

  add(call: Call): void {
    switch (call.kind) {
      case 'observe':
        this.#push(OBSERVE, this.#indexes.get(call.member) ?? 0, ...toNumbers(call.sample));
        break;
      case 'tick':
        this.#push(LOOK, call.elapsedMs);
        break;
      case 'step':
        this.#push(STEP, this.#events.push(call.event) - 1);
        break;
    }
  }

  /** Makes the calls again. @returns the round as it ended, the same as when they were made */
  replay(live: LiveDecider): Round {
    let { round } = begin(this.#members);
    for (let at = 0; at < this.#length; ) {
      const kind = this.#number(at++);
      const value = this.#number(at++);
      if (kind === LOOK) live.tick(value);
      else if (kind === OBSERVE) {
        live.observe(
          this.#members[value] ?? '',
          fromNumbers((field) => this.#number(at + field)),
        );
        at += FIELDS;
      } else {
        const event = this.#events[value];
        if (event !== undefined) ({ round } = step(round, event));
      }
    }
    return round;
  }

  #number(at: number): number {
    return this.#numbers[at] ?? Number.NaN;
  }

  #push(...numbers: readonly number[]): void {
    if (this.#length + numbers.length > this.#numbers.length) {
      const longer = new Float64Array(2 * this.#numbers.length);
      longer.set(this.#numbers);
      this.#numbers = longer;
    }
    this.#numbers.set(numbers, this.#length);
    this.#length += numbers.length;
  }
}

const FIELDS = 14;

function toNumbers(sample: LiveSample): number[] {
  return [
    sample.bytes,
    sample.flowedMs,
    sample.seenPages,
    sample.totalPages,
    sample.normalPages,
    sample.zeroPages,
    sample.passes,
    sample.passAtMs,
    sample.waits ? 1 : 0,
    sample.remainingBytes ?? Number.NaN,
    sample.passBytes ?? Number.NaN,
    sample.dirtyBytesPerSecond ?? Number.NaN,
    sample.atMs,
    sample.keptBack ? 1 : 0,
  ];
}

function fromNumbers(number: (field: number) => number): LiveSample {
  return {
    bytes: number(0),
    flowedMs: number(1),
    seenPages: number(2),
    totalPages: number(3),
    normalPages: number(4),
    zeroPages: number(5),
    passes: number(6),
    passAtMs: number(7),
    waits: number(8) === 1,
    remainingBytes: known(number(9)),
    passBytes: known(number(10)),
    dirtyBytesPerSecond: known(number(11)),
    atMs: number(12),
    keptBack: number(13) === 1,
  };
}

function known(value: number): number | undefined {
  return Number.isNaN(value) ? undefined : value;
}
