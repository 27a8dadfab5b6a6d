/**
 * Spans of a member's round, for the report's timeline (protocol/report.ts, Span). PURE.
 *
 * Times come from QEMU (STOP, RESUME) and from the member's proxy, all by the clock of one host.
 */
import type { Span } from '../../protocol/report.ts';
import type { RoundFacts } from '../../protocol/round-facts.ts';

/**
 * Returns the spans of a member's round, in order.
 * @param startedAtMs when the round began, milliseconds since 1970
 */
export function timelineOf(facts: RoundFacts, startedAtMs: number): readonly Span[] {
  const { flow = [], stoppedAtUs, resumedAtUs, drainMs } = facts;
  const since = (ms: number) => ms - startedAtMs;
  // A proxy hears of the stop a little later than QEMU's time stamp of it.
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
