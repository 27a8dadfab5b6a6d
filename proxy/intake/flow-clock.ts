import type { FlowSpan } from '../protocol/member.ts';

/** Shorter rests, between two passes, are not drawn. */
const LEAST_HELD_MS = 50;
/** A live phase of a minute in the shortest slots has fewer. */
const SPANS_MAX = 1_000;

export class FlowClock {
  readonly #now: () => number;
  readonly #spans: FlowSpan[] = [];
  #reading = false;
  #since: number | undefined;
  /** Milliseconds read in spans that have ended. */
  #flowedMs = 0;

  /** @param now milliseconds since 1970, never going back */
  constructor(now: () => number = () => performance.timeOrigin + performance.now()) {
    this.#now = now;
  }

  /** The live phase begins. */
  start(): void {
    this.#since = this.#now();
  }

  /** The stream is read, or held, from now on. */
  note(reading: boolean): void {
    if (reading === this.#reading) return;
    this.#close();
    this.#reading = reading;
  }

  /** Milliseconds of the live phase in which the stream was read. */
  get flowedMs(): number {
    const present = this.#reading && this.#since !== undefined ? this.#now() - this.#since : 0;
    return this.#flowedMs + present;
  }

  /** The live phase is over: the VM stands. @returns its spans, oldest first */
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
