/** Does work on many items, a limited number of them at once. */
import pLimit from 'p-limit';
import { ShadowError } from '../errors.ts';

/**
 * Runs the work on every item. After a failure no other item is begun, and the failure is reported
 * only when no work is running any more.
 * @param limit items at once
 */
export async function inParallel<A, B>(
  limit: number,
  items: readonly A[],
  work: (item: A) => Promise<B>,
): Promise<B[]> {
  const atOnce = pLimit(limit);
  let failed = false;
  const running = items.map((item) =>
    atOnce(async () => {
      if (failed) throw new Error('another failed before it began');
      return work(item).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }),
  );
  const outcomes = await Promise.allSettled(running);
  const first = outcomes.find(
    (one) => one.status === 'rejected' && one.reason instanceof ShadowError,
  );
  if (first?.status === 'rejected') throw first.reason;
  return Promise.all(running);
}
