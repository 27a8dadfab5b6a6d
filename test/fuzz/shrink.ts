/** Shortening of an input that breaks a promise, as long as it causes the same error. */
import type { Finding } from './campaign.ts';
import { Judge } from './judge.ts';
import type { Target } from './target.ts';

const TRIES_MAX = 500;

export async function shrink(target: Target, { input, error }: Finding): Promise<Buffer> {
  const judge = new Judge(target, undefined);
  let best = input;
  let tries = 0;
  try {
    for (let size = best.length >> 1; size > 0; size >>= 1) {
      for (let at = 0; at < best.length; ) {
        if (tries++ >= TRIES_MAX) return best;
        const shorter = Buffer.concat([best.subarray(0, at), best.subarray(at + size)]);
        const candidate = target.mend?.(shorter) ?? shorter;
        const found = candidate.length < best.length ? await judge.judge(candidate) : undefined;
        if (found !== undefined && kindOf(found) === kindOf(error)) best = candidate;
        else at += size;
      }
    }
    return best;
  } finally {
    judge.close();
  }
}

/** Returns where an error was thrown, and its message without numbers and the input's texts. */
function kindOf(error: Error): string {
  const [message = '', location = ''] = (error.stack ?? '').split('\n');
  return `${message.replaceAll(/\d+/g, '0').slice(0, 40)} ${location}`;
}
