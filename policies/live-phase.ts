/**
 * The live phase of a round: all its decisions, from samples and time. PURE: the coordinator feeds
 * it the proxies' samples and enacts its decisions; the simulator does the same with modelled VMs.
 *
 *     observe(member, sample) ──▶ estimate        at every sample; costs the same for any cluster
 *     tick(elapsedMs) ──▶ slots, prediction, end  at every tick; costs one walk over the members
 *
 *     LIVE ──an end condition holds──▶ CLOSING IN ──CLOSE_IN_MS later──▶ end
 *
 * While closing in, all members stream freely: members that were held or slowed catch up, and a
 * QEMU that sleeps between two windows of its rate limit wakes. So neither happens while the
 * cluster is stopped.
 */
import { type Calibration, correct } from './calibration.ts';
import { decideEnd, type EndCondition, type EndDecision } from './end-condition.ts';
import { type Estimate, estimate, type LiveSample, nothingKnown } from './estimator.ts';
import { chooseSlots, type Multiplexing } from './multiplexing.ts';
import { observeProgress, type Progress, whyStalled } from './progress.ts';

export interface LivePolicy {
  readonly endWhen: readonly EndCondition[];
  readonly multiplexing: Multiplexing;
}

export interface LiveDecision {
  /** Members whose stream is to flow from now on, and those to be held. */
  readonly flow: readonly string[];
  readonly hold: readonly string[];
  /** Members whose slots and pacing are over from now on. */
  readonly closeIn: readonly string[];
  /** Cluster downtime if the phase ended now, milliseconds; undefined while it is unknown. */
  readonly predictedMs: number | undefined;
  /** The same before correction by earlier rounds (calibration.ts). */
  readonly rawPredictedMs: number | undefined;
  readonly end: EndDecision;
}

/** More than the window of QEMU's rate limit (BUFFER_DELAY, 100 ms), and the way there. */
const CLOSE_IN_MS = 150;

export class LivePhase {
  readonly #policy: LivePolicy;
  readonly #memoryBound: number;
  readonly #calibration: Calibration;
  readonly #members = new Map<string, Estimate>();
  /** Members whose stream flows, as last decided. */
  #open: ReadonlySet<string> = new Set();
  #progress: Progress | undefined;
  /** The condition that held first, and when. */
  #ending: { readonly end: EndDecision; readonly sinceMs: number } | undefined;

  constructor(members: readonly string[], policy: LivePolicy, calibration: Calibration) {
    this.#policy = policy;
    const bounds = policy.endWhen.flatMap((one) => (one.kind === 'memory-bound' ? one.factor : []));
    this.#memoryBound = Math.min(...bounds); // infinite without any
    this.#calibration = calibration;
    for (const name of members) this.#members.set(name, nothingKnown());
  }

  get members(): ReadonlyMap<string, Estimate> {
    return this.#members;
  }

  observe(member: string, sample: LiveSample): void {
    const before = this.#members.get(member);
    if (before !== undefined) estimate(before, sample);
  }

  /** Sets how much memory a member has, bytes, before it streams. */
  expect(member: string, ramBytes: number): void {
    if (this.#members.has(member)) this.#members.set(member, nothingKnown(ramBytes));
  }

  /** Decides what happens now. @param elapsedMs milliseconds since the live phase began */
  tick(elapsedMs: number): LiveDecision {
    const rawLiveMs = this.#predictLive();
    const liveMs = rawLiveMs && correct(rawLiveMs, this.#calibration.fit);
    // Members with a live phase say nothing about those without one.
    const told = this.#allLive();
    const predictedMs = told ? liveMs : undefined;
    const rawPredictedMs = told ? rawLiveMs : undefined;
    const view = { flow: [], hold: [], closeIn: [], predictedMs, rawPredictedMs };
    if (this.#ending !== undefined) {
      const { end, sinceMs } = this.#ending;
      return { ...view, end: elapsedMs - sinceMs >= CLOSE_IN_MS ? end : NOT_YET };
    }
    const end = this.#decideEnd(elapsedMs, liveMs);
    if (!end.end) return { ...view, ...this.#moveSlots(elapsedMs), end };
    if (!this.#isLive()) return { ...view, end };
    this.#ending = { end, sinceMs: elapsedMs };
    return { ...view, closeIn: [...this.#members.keys()], end: NOT_YET };
  }

  #decideEnd(elapsedMs: number, predictedMs: number | undefined): EndDecision {
    const members = this.#members;
    this.#progress = observeProgress(this.#progress, members);
    const stalled = this.#isLive() ? whyStalled(this.#progress, members) : NONE_LIVE;
    return decideEnd({ members, elapsedMs, predictedMs, stalled }, this.#policy.endWhen);
  }

  #moveSlots(elapsedMs: number): { readonly flow: string[]; readonly hold: string[] } {
    const { open } = chooseSlots(
      this.#members,
      elapsedMs,
      this.#policy.multiplexing,
      this.#memoryBound,
    );
    const flow = [...open].filter((name) => !this.#open.has(name));
    const hold = [...this.#open].filter((name) => !open.has(name));
    this.#open = open;
    return { flow, hold };
  }

  #isLive(): boolean {
    for (const { waits } of this.#members.values()) if (!waits) return true;
    return false;
  }

  #allLive(): boolean {
    for (const { waits } of this.#members.values()) if (waits) return false;
    return true;
  }

  /** Predicts by the slowest member with a live phase: none resumes before all have stopped. */
  #predictLive(): number | undefined {
    let slowestMs = 0;
    for (const { waits, firstPassDone, downtimeMs } of this.#members.values()) {
      if (waits) continue;
      if (!firstPassDone || downtimeMs === undefined) return undefined;
      slowestMs = Math.max(slowestMs, downtimeMs);
    }
    return slowestMs;
  }
}

const NOT_YET: EndDecision = { end: false };
const NONE_LIVE = 'no member has a live phase';
