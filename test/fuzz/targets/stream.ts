/**
 * Fuzz target: the stream decoder. Whatever the bytes:
 *   - nothing but a StreamError with a documented code is thrown, and it stays the same one;
 *   - the sink is called no more than the bytes allow, with offsets inside of its blocks;
 *   - the decoder holds no more memory than bytes written and limits allow;
 *   - the result is the same however the bytes are cut.
 */
import { strict as assert } from 'node:assert';
import { crc32 } from 'node:zlib';
import { PrecopyDecoder } from '../../../proxy/stream/decoder.ts';
import { STREAM_ERRORS, StreamError } from '../../../proxy/stream/errors.ts';
import type { StreamLimits } from '../../../proxy/stream/limits.ts';
import { QEMU_VM_VMDESCRIPTION } from '../../../proxy/stream/wire.ts';
import { atRandom } from '../../proxy/stream/cuts.ts';
import { mutateLine } from '../mutate-lines.ts';
import type { Target } from '../target.ts';
import { CheckingSink } from './checking-sink.ts';

/** Limits, small so that wrong lengths reach them. */
const LIMITS: Partial<StreamLimits> = {
  configurationBytes: 4096,
  blockCount: 64,
  ramBytes: 2 ** 33,
  tailBytes: 256 * 1024,
  vmdescBytes: 256 * 1024,
};
/** Most memory of a decoder: carry (a 64 KiB page), CONFIGURATION, tail with VMDESC, and 1 KiB. */
const HELD_BYTES_MAX = 65536 + 2 * 4096 + 2 * 256 * 1024 + 1024;

export const target: Target = {
  covers: ['proxy/stream/'],
  inputBytesMax: 200_000,
  words: ['pc.ram', 'QEVM', 'ram', 'configuration', 'vmdesc', '{"page_size": 4096, "devices": []}'],
  mutate: mutateVmdesc,
  check(input) {
    const chance = crc32(input);
    const mode = chance % 5 === 0 ? 'background' : 'precopy';
    const whole = decode(input, [input], mode);
    const pieces = decode(input, atRandom(input, chance, chance % 2 === 0 ? 40 : 5000), mode);
    // By the cut, a tail may be complete within the stream, or be continued.
    const inTail = (result: string): boolean => /^(tail|complete)/.test(result);
    assert.ok(whole === pieces || (inTail(whole) && inTail(pieces)), `${whole} but ${pieces}`);
    return whole.split(' ')[0] ?? '';
  },
};

/** Changes the description of devices at the end of a stream: 06, length, JSON. */
function mutateVmdesc(input: Buffer, random: () => number): Buffer {
  for (let at = input.indexOf('{'); at !== -1; at = input.indexOf('{', at + 1)) {
    const isVmdesc = at >= 5 && input[at - 5] === QEMU_VM_VMDESCRIPTION;
    if (!isVmdesc || input.readUInt32BE(at - 4) !== input.length - at) continue;
    const said = Buffer.from(mutateLine(input.toString('utf8', at), random));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(said.length);
    return Buffer.concat([input.subarray(0, at - 4), length, said]);
  }
  return input;
}

/** Decodes bytes in the given chunks. @returns code and offset, or what was decoded */
function decode(bytes: Buffer, chunks: Iterable<Buffer>, mode: 'precopy' | 'background'): string {
  const sink = new CheckingSink();
  const decoder = new PrecopyDecoder(sink, LIMITS, { mode });
  try {
    for (const chunk of chunks) {
      decoder.write(chunk);
      assert.ok(decoder.position <= decoder.counters.bytes);
      assert.ok(decoder.bufferedBytes <= HELD_BYTES_MAX, `${decoder.bufferedBytes} bytes held`);
    }
    decoder.end();
    assert.equal(sink.completed, 1);
    return `complete ${sink.hash}`;
  } catch (error) {
    assert.ok(error instanceof StreamError, error as Error);
    assert.ok(Object.hasOwn(STREAM_ERRORS, error.code));
    assert.ok(error.offset >= 0 && error.offset <= bytes.length);
    assert.equal(decoder.phase, 'failed');
    assert.throws(
      () => decoder.write(Buffer.alloc(1)),
      (again) => again === error,
    );
    // In the tail the cut decides when an end or a limit is seen; everywhere else it must not.
    return error.section === 'device state' ? 'tail' : `${error.code} ${error.offset} ${sink.hash}`;
  } finally {
    // The least that makes a call of the sink is a zero page of 9 bytes; a few calls have less.
    assert.ok(sink.calls <= bytes.length / 9 + 8, `${sink.calls} calls for ${bytes.length} bytes`);
  }
}
