/**
 * When does the live phase end, for all members at once? PURE: samples and time in, decision out.
 *
 *     all-first-pass   every member has sent every page once
 *     elapsed          the live phase has lasted its maximum
 *
 * First hit wins. (A member that switches over by itself ends it, too; that is the round's own rule.)
 */

export interface LiveSample {
  readonly seenPages: number;
  /** 0 while the stream has not listed its blocks. */
  readonly totalPages: number;
  /** QEMU's passes over dirty memory; the second begins when the first is done. */
  readonly passes: number;
  /** It has no live phase: it stands ready to be stopped (capture mode stop-copy). */
  readonly waits: boolean;
}

export interface EndConditionOptions {
  /** Longest live phase, milliseconds. */
  readonly maxLiveMs: number;
}

export type EndDecision =
  | { readonly end: false; readonly waitingFor: readonly string[] }
  | { readonly end: true; readonly reason: string };

/** @param elapsedMs since the live phase began */
export function decideEnd(
  samples: ReadonlyMap<string, LiveSample>,
  elapsedMs: number,
  options: EndConditionOptions,
): EndDecision {
  const waitingFor = [...samples].flatMap(([member, sample]) =>
    firstPassDone(sample) ? [] : [member],
  );
  if (waitingFor.length === 0) {
    return { end: true, reason: 'all-first-pass: every member has sent all its memory once' };
  }
  if (elapsedMs >= options.maxLiveMs) {
    const late = waitingFor.join(', ');
    return { end: true, reason: `elapsed: ${options.maxLiveMs} ms; not done once: ${late}` };
  }
  return { end: false, waitingFor };
}

function firstPassDone({ seenPages, totalPages, passes, waits }: LiveSample): boolean {
  return waits || passes >= 2 || (totalPages > 0 && seenPages >= totalPages);
}
