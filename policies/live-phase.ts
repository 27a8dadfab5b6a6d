/**
 * The live phase of a round: all decisions of it, from samples and time. PURE: the coordinator feeds it
 * what proxies tell and enacts what it says, the simulator does the same with modelled VMs.
 *
 *     observe(member, sample) ──▶ estimate        at every sample; costs the same for any cluster
 *     look(elapsedMs) ──▶ slots, prediction, end  at every tick; costs one walk over the members
 *
 *     LIVE ──an end condition holds──▶ CLOSING IN ──a moment later──▶ end
 *
 * Closing in, all stream freely: members that were held or slowed catch up, and QEMUs that sleep between
 * two windows of their rate limit wake, so that nobody does either while the cluster stands.
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
  /** Members for whom slots and pacing are over from now on. */
  readonly closeIn: readonly string[];
  /** Cluster downtime if the phase ended now, milliseconds; undefined while it cannot be told. */
  readonly predictedMs: number | undefined;
  /** The same before it was corrected by what earlier rounds have taught. */
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

  /** Tells how much memory a member has, before it streams. */
  expect(member: string, ramBytes: number): void {
    if (this.#members.has(member)) this.#members.set(member, nothingKnown(ramBytes));
  }

  /** @param elapsedMs since the live phase began */
  look(elapsedMs: number): LiveDecision {
    const rawLiveMs = this.#predictLive();
    const liveMs = rawLiveMs && correct(rawLiveMs, this.#calibration.fit);
    // What one without a live phase will take cannot be told from those that have one.
    const told = this.#allLive();
    const predictedMs = told ? liveMs : undefined;
    const rawPredictedMs = told ? rawLiveMs : undefined;
    const looked = { flow: [], hold: [], closeIn: [], predictedMs, rawPredictedMs };
    if (this.#ending !== undefined) {
      const { end, sinceMs } = this.#ending;
      return { ...looked, end: elapsedMs - sinceMs >= CLOSE_IN_MS ? end : NOT_YET };
    }
    const end = this.#decideEnd(elapsedMs, liveMs);
    if (!end.end) return { ...looked, ...this.#moveSlots(elapsedMs), end };
    if (!this.#isLive()) return { ...looked, end };
    this.#ending = { end, sinceMs: elapsedMs };
    return { ...looked, closeIn: [...this.#members.keys()], end: NOT_YET };
  }

  #decideEnd(elapsedMs: number, predictedMs: number | undefined): EndDecision {
    const members = this.#members;
    this.#progress = observeProgress(this.#progress, members);
    const stalled = this.#isLive() ? whyStalled(this.#progress, members) : NOBODY_LIVE;
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

  /** The slowest of those with a live phase counts: nobody resumes before all have stopped. */
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
const NOBODY_LIVE = 'no member has a live phase';
