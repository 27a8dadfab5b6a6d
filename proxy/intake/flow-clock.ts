/**
 * Measures how long a stream was read, and draws when it was read and when it was held. PURE.
 *
 *     start          note(true)       note(false)      note(true)        end
 *       ├──── held ─────┼───── live ──────┼──── held ──────┼──── live ────┤
 *
 * A rest shorter than LEAST_HELD_MS counts as time held, but is drawn as part of what surrounds it.
 */
import type { FlowSpan } from '../protocol/member.ts';

/** The shortest rest that is drawn, milliseconds. Rests between two passes are shorter. */
const LEAST_HELD_MS = 50;
/** The most spans that are kept. A live phase of a minute in the shortest slots has fewer. */
const SPANS_MAX = 1_000;

export class FlowClock {
  readonly #now: () => number;
  readonly #spans: FlowSpan[] = [];
  #reading = false;
  #since: number | undefined;
  /** Milliseconds read in spans that have ended. */
  #flowedMs = 0;

  /** @param now milliseconds since 1970, never decreasing */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Begins the live phase. */
  start(): void {
    this.#since = this.#now();
  }

  /** Notes that the stream is read, or held, from now on. */
  note(reading: boolean): void {
    if (reading === this.#reading) return;
    this.#close();
    this.#reading = reading;
  }

  /** Returns the milliseconds of the live phase in which the stream was read. */
  get flowedMs(): number {
    const present = this.#reading && this.#since !== undefined ? this.#now() - this.#since : 0;
    return this.#flowedMs + present;
  }

  /** Ends the live phase: the VM has stopped. @returns its spans, oldest first */
  end(): readonly FlowSpan[] {
    this.#close();
    this.#since = undefined;
    return this.#spans;
  }

  #close(): void {
    const fromMs = this.#since;
    if (fromMs === undefined) return;
    const toMs = this.#now();
    this.#since = toMs;
    if (this.#reading) this.#flowedMs += toMs - fromMs;
    this.#draw({ state: this.#reading ? 'live' : 'held', fromMs, toMs });
  }

  #draw(span: FlowSpan): void {
    const last = this.#spans.at(-1);
    const short = span.state === 'held' && span.toMs - span.fromMs < LEAST_HELD_MS;
    const joins = last !== undefined && (short || last.state === span.state);
    if (joins) this.#spans[this.#spans.length - 1] = { ...last, toMs: span.toMs };
    else if (this.#spans.length < SPANS_MAX && !short) this.#spans.push(span);
  }
}
