/**
 * Fuzz target: what a relay reads of the bytes it passes on, that is, their kind by the first four,
 * then the main channel. Nothing is thrown. The kind is known from four bytes on and never changes.
 * Memory is bounded by what a decoder may hold.
 */
import { strict as assert } from 'node:assert';
import { crc32 } from 'node:zlib';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import { formatAddress, parseAddress } from '../../../proxy/host/address.ts';
import { classify, MARK_BYTES } from '../../../proxy/relay/classify.ts';
import { Follower } from '../../../proxy/relay/follower.ts';
import { atRandom } from '../../proxy/stream/cuts.ts';
import { codeOf, type Target } from '../target.ts';

export const target: Target = {
  covers: ['proxy/relay/'],
  inputBytesMax: 100_000,
  words: ['QEVM', Buffer.from('11223344', 'hex'), Buffer.from('160301', 'hex'), 'tcp://[::1]:4'],
  check(input) {
    if (input.toString('latin1', 0, 7).includes('://')) return address(input.toString());
    const kind = classify(input);
    assert.equal(kind === undefined, input.length < MARK_BYTES);
    assert.equal(classify(input.subarray(0, MARK_BYTES)), kind);
    const follower = new Follower();
    for (const chunk of atRandom(input, crc32(input), 3000)) follower.write(chunk);
    const { sink, trouble } = follower;
    if (trouble !== undefined) assert.ok(trouble.length > 0 && trouble.length < 2000);
    return `${kind} ${sink.ramEnded ? 'to its end' : trouble === undefined ? 'so far' : 'blind'}`;
  },
};

/** Parses an address; an accepted one is the same when it is formatted and parsed again. */
function address(text: string): string {
  try {
    const parsed = parseAddress(text);
    assert.deepEqual(parseAddress(formatAddress(parsed)), parsed);
    return `an address: ${parsed.kind}`;
  } catch (error) {
    return codeOf(error, UmbraError);
  }
}
