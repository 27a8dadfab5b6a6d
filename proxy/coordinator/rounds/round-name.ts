import { randomBytes } from 'node:crypto';
import { ROUND_RANDOM_BYTES, roundName } from '../../../shadow/index.ts';

/** Makes a name that no other round has; the folder of its shadows has it, too. */
export function newRoundName(epoch: number): string {
  return roundName(epoch, randomBytes(ROUND_RANDOM_BYTES));
}
