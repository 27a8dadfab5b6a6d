/** Bounds the wait for work that may never end. The work itself continues. */
import { setTimeout as delay } from 'node:timers/promises';

/** Returns true if the work settles before the limit, milliseconds, and before the signal. */
export async function settles(
  work: Promise<unknown>,
  limitMs: number,
  signal: AbortSignal = new AbortController().signal,
): Promise<boolean> {
  const settled = new AbortController();
  const over = delay(limitMs, false, { signal: AbortSignal.any([signal, settled.signal]) });
  const outcome = await Promise.race([
    work.then(
      () => true,
      () => true,
    ),
    over.catch(() => false),
  ]);
  settled.abort();
  return outcome;
}
