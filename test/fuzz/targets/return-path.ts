/**
 * Fuzz target: reader of the return path. It never throws; any cut of the bytes gives one verdict.
 */
import { strict as assert } from 'node:assert';
import { crc32 } from 'node:zlib';
import { ReturnPathReader } from '../../../proxy/stream/return-path-reader.ts';
import { atRandom, bySize } from '../../proxy/stream/cuts.ts';
import type { Target } from '../target.ts';

export const target: Target = {
  covers: ['proxy/stream/return-path-reader.ts'],
  inputBytesMax: 1000,
  words: [Buffer.from('00010004', 'hex'), Buffer.from('0006', 'hex')],
  check(input) {
    const whole = verdictOf([input]);
    assert.equal(verdictOf(bySize(input, 1)), whole);
    assert.equal(verdictOf(atRandom(input, crc32(input), 20)), whole);
    return whole === undefined ? 'no verdict' : whole === 0 ? 'loaded' : 'refused';
  },
};

function verdictOf(chunks: Iterable<Buffer>): number | undefined {
  const reader = new ReturnPathReader();
  for (const chunk of chunks) reader.write(chunk);
  return reader.verdict;
}
