/**
 * Fuzz target: replies on a guest's control channel. Nothing is thrown, the result is the same
 * however the bytes are cut, and the memory of a line is bounded.
 */
import { strict as assert } from 'node:assert';
import { crc32 } from 'node:zlib';
import { type GuestReply, ReplyDecoder } from '../../../tools/guest/control-frames.ts';
import { atRandom } from '../../proxy/stream/cuts.ts';
import type { Target } from '../target.ts';

export const target: Target = {
  covers: ['tools/guest/control-frames.ts'],
  inputBytesMax: 40_000,
  words: ['\n::ready\n', '::rc ', '::out ', '::no ', '\n', 'x'.repeat(9000)],
  check(input) {
    const whole = decode([input]);
    assert.deepEqual(decode(atRandom(input, crc32(input), 300)), whole);
    for (const reply of whole) {
      if (reply.kind === 'exit') assert.ok(reply.exitCode >= 0 && reply.exitCode <= 255);
    }
    return [...new Set(whole.map(({ kind }) => kind))].sort().join(' ') || 'nothing';
  },
};

function decode(chunks: Iterable<Buffer>): GuestReply[] {
  const replies: GuestReply[] = [];
  const decoder = new ReplyDecoder((reply) => replies.push(reply));
  for (const chunk of chunks) decoder.write(chunk);
  return replies;
}
