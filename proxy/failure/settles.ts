/** Waits for work that may never end; the work goes on. */
import { setTimeout as delay } from 'node:timers/promises';

/** @returns false if it has not settled by then, or by when someone signals */
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
