/**
 * Draws from the seed what goes wrong, and when, before anything happens: so a story can be
 * repeated with some of its faults left out.
 */
import type { Random } from '../random.ts';
import type { Capture } from './terms.ts';

export const FAULT_KINDS = [
  'kill-proxy',
  'freeze-proxy',
  'kill-daemon',
  'freeze-daemon',
  'kill-vm',
  /** Takes longer to stop than the deadline. */
  'slow-stop',
  /** `cont` is refused for a while. */
  'refuse-cont',
  /** QEMU converges and switches over by itself. */
  'switch-over',
  /** The stream ends before its END. */
  'cut-stream',
  /** The operator resumes the VM. */
  'foreign-cont',
  'refuse-admission',
  'store-full',
  'publish-fails',
  'abort',
  'power-cut',
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly atMs: number;
  /** Instead, so many milliseconds after its member's VM has stopped for the first time since. */
  readonly afterStopMs: number | undefined;
  /** Index of the member it happens to, where it happens to one. */
  readonly member: number;
  /** The duration of a fault that has one, milliseconds. */
  readonly ms: number;
}

export interface Plan {
  readonly members: number;
  readonly capture: readonly Capture[];
  /** Epochs are on disk before they are published. */
  readonly durable: boolean;
  /** Messages may be lost, doubled and overtake one another. */
  readonly unreliable: boolean;
  readonly faults: readonly Fault[];
}

const MOST_MEMBERS = 5;
const MOST_FAULTS = 5;
/** Share of the plans in which members that would be captured by precopy are tracked. */
const TRACKED_SHARE = 0.4;

/** @param untilMs faults happen before that */
export function drawPlan(random: Random, untilMs: number): Plan {
  const members = random.integer(1, MOST_MEMBERS);
  const background = random.next();
  const streamed = Array.from({ length: members }, () =>
    random.next() < background ? 'background' : 'precopy',
  );
  const durable = random.next() < 0.3;
  const unreliable = random.next() < 0.3;
  const faults = drawFaults(random, members, untilMs);
  const tracks = random.next() < TRACKED_SHARE;
  const capture = streamed.map((one) => (tracks && one === 'precopy' ? 'tracked' : one));
  return { members, capture, durable, unreliable, faults };
}

/**
 * Troubles come together: many a fault follows another, at the same member; and many a one comes in
 * the short while that matters most.
 */
function drawFaults(random: Random, members: number, untilMs: number): Fault[] {
  const faults: Fault[] = [];
  for (let left = random.integer(0, MOST_FAULTS); left > 0; left--) {
    const last = faults.at(-1);
    const follows = last !== undefined && random.next() < 0.6;
    faults.push({
      kind: random.choice(...FAULT_KINDS),
      atMs: follows
        ? Math.min(untilMs, last.atMs + random.exponential(20))
        : random.uniform(0, untilMs),
      afterStopMs: random.next() < 0.3 ? random.exponential(3) : undefined,
      member: follows ? last.member : random.integer(0, members - 1),
      ms: random.logUniform(1, 1000),
    });
  }
  return faults.sort((a, b) => a.atMs - b.atMs);
}
