/**
 * A member's round as spans of time, for the report's lanes. PURE.
 *
 *     live      runs, and its stream flows
 *     held      runs, and its stream waits
 *     stopped   stands, and sends what is left
 *     drained   stands, and all has arrived: it waits for the barrier, or to be resumed
 *     saving    runs, and its memory is saved as it was (background)
 *
 * Times come from QEMU (STOP, RESUME) and from the member's proxy, all by the clock of one host.
 */
import type { RoundFacts } from './member.ts';

export interface Span {
  readonly state: 'live' | 'held' | 'stopped' | 'drained' | 'saving';
  /** Milliseconds since the round began. */
  readonly fromMs: number;
  readonly toMs: number;
}

/** @param startedAtMs when the round began, milliseconds since 1970 */
export function timelineOf(facts: RoundFacts, startedAtMs: number): readonly Span[] {
  const { flow = [], stoppedAtUs, resumedAtUs, drainMs } = facts;
  const since = (ms: number) => ms - startedAtMs;
  // A proxy hears of the stop a little later than it was.
  const stopMs = stoppedAtUs === undefined ? Number.POSITIVE_INFINITY : stoppedAtUs / 1000;
  const spans: Span[] = flow
    .filter(({ fromMs }) => fromMs < stopMs)
    .map(({ state, fromMs, toMs }) => {
      return { state, fromMs: since(fromMs), toMs: since(Math.min(toMs, stopMs)) };
    });
  if (stoppedAtUs === undefined || resumedAtUs === undefined) return spans;
  const stopped = since(stoppedAtUs / 1000);
  const resumed = since(resumedAtUs / 1000);
  const whole = stopped + (drainMs ?? 0);
  if (facts.capture === 'background') {
    return [
      ...spans,
      { state: 'stopped', fromMs: stopped, toMs: resumed },
      { state: 'saving', fromMs: resumed, toMs: Math.max(resumed, whole) },
    ];
  }
  const drained = Math.min(resumed, whole);
  return [
    ...spans,
    { state: 'stopped', fromMs: stopped, toMs: drained },
    { state: 'drained', fromMs: drained, toMs: resumed },
  ];
}

/**
 * How long a stream was read and how long it was held, and when: the live half of a member's timeline.
 * PURE but for the clock it is given.
 */
