/**
 * A host's bandwidth, shared by the streams of its VMs. Each stream alone carries so much, all of
 * them together no more than the host does; those that flow have equal shares. A fluid: nothing
 * happens between two changes of the flowing streams, so there are no other events.
 *
 * All that flow carry the same, so one account of it does for all: what a stream has carried is
 * what the account has grown by since the stream was settled.
 */
import type { Events } from './events.ts';

export interface Bandwidth {
  /** Bytes a second that one stream carries at most. */
  readonly streamBytesPerSecond: number;
  /** Bytes a second that all streams of the host carry at most. */
  readonly hostBytesPerSecond: number;
}

/** A stream as the host sees it. */
export interface Stream {
  /** Bytes of work until something happens to it. */
  readonly leftWork: number;
  send(work: number): void;
  /** Takes that the work that `leftWork` named is done. */
  onReached(): void;
}

/** Less than this is rounding, not work, bytes. */
const NOTHING = 1e-3;

export class Host {
  readonly #events: Events;
  readonly #bandwidth: Bandwidth;
  /** Streams that flow, and what the account was when each was settled. */
  readonly #flowing = new Map<Stream, number>();
  /** Bytes of work that a stream would have carried if it had flowed all the time. */
  #account = 0;
  #accountedMs = 0;
  /** Bytes a millisecond, of each that flows. */
  #rate = 0;
  /** Events planned before the last change are void. */
  #plan = 0;
  #changing = false;

  constructor(events: Events, bandwidth: Bandwidth) {
    this.#events = events;
    this.#bandwidth = bandwidth;
  }

  /** Returns the bytes a millisecond that each of the flowing streams has. */
  get rate(): number {
    return this.#rate;
  }

  flow(stream: Stream): void {
    if (this.#flowing.has(stream)) return;
    this.#advance();
    this.#flowing.set(stream, this.#account);
    this.#share();
  }

  hold(stream: Stream): void {
    if (!this.#flowing.has(stream)) return;
    this.settle(stream);
    this.#flowing.delete(stream);
    this.#share();
  }

  /** Takes that what is left of a stream has changed: its VM has stopped, or a limit is off. */
  changed(stream: Stream): void {
    if (this.#flowing.has(stream)) this.#replan();
  }

  /**
   * Tells a stream what it has carried until now: before it is looked at, and before it changes.
   */
  settle(stream: Stream): void {
    const settled = this.#flowing.get(stream);
    if (settled === undefined) return;
    this.#advance();
    if (this.#account === settled) return;
    this.#flowing.set(stream, this.#account);
    stream.send(this.#account - settled);
  }

  #advance(): void {
    const { nowMs } = this.#events;
    if (this.#flowing.size > 0) this.#account += (nowMs - this.#accountedMs) * this.#rate;
    this.#accountedMs = nowMs;
  }

  #share(): void {
    const { streamBytesPerSecond, hostBytesPerSecond } = this.#bandwidth;
    const equal = hostBytesPerSecond / Math.max(1, this.#flowing.size);
    this.#rate = Math.min(streamBytesPerSecond, equal) / 1000;
    // An account that grows for ever loses the last bits of what is added to it.
    if (this.#flowing.size === 0) this.#account = 0;
    this.#replan();
  }

  #replan(): void {
    if (this.#changing || this.#flowing.size === 0) return;
    this.#advance();
    const plan = ++this.#plan;
    let next = Number.POSITIVE_INFINITY;
    for (const [stream, settled] of this.#flowing) {
      next = Math.min(next, settled + stream.leftWork);
    }
    this.#events.after((next - this.#account) / this.#rate, () => {
      if (plan === this.#plan) this.#arrive();
    });
  }

  /** Calls the streams that are done. They may stop or start to flow: planning waits until then. */
  #arrive(): void {
    this.#advance();
    const reached: Stream[] = [];
    for (const [stream, settled] of this.#flowing) {
      if (settled + stream.leftWork <= this.#account + NOTHING) reached.push(stream);
    }
    this.#changing = true;
    for (const stream of reached) {
      this.settle(stream);
      stream.onReached();
    }
    this.#changing = false;
    this.#replan();
  }
}
