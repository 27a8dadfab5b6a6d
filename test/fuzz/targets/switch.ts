/**
 * Fuzz target: frames of guests in the switch. Only FrameLengthError is thrown. Frames are passed
 * on in order and byte for byte, the same however the bytes are cut. Each goes to existing ports,
 * and never back to its sender's.
 */
import { strict as assert } from 'node:assert';
import { crc32 } from 'node:zlib';
import { Fabric } from '../../../proxy/switch/fabric.ts';
import { FRAME_BYTES_MAX, FrameDecoder, FrameLengthError } from '../../../proxy/switch/frames.ts';
import { atRandom } from '../../proxy/stream/cuts.ts';
import { codeOf, type Target } from '../target.ts';

const PORTS = 3;

export const target: Target = {
  covers: ['proxy/switch/'],
  inputBytesMax: 200_000,
  words: [Buffer.from('0000000e', 'hex'), Buffer.from('ffffffffffff', 'hex')],
  check(input) {
    const whole = decode(input, [input]);
    assert.equal(decode(input, atRandom(input, crc32(input), 500)), whole);
    return whole.split(' ')[0] ?? '';
  },
};

function decode(input: Buffer, chunks: Iterable<Buffer>): string {
  const fabric = new Fabric(PORTS);
  let at = 0;
  const decoder = new FrameDecoder((wire) => {
    assert.ok(wire.length <= 4 + FRAME_BYTES_MAX);
    assert.ok(wire.equals(input.subarray(at, at + wire.length)), 'another frame than came');
    const port = at % PORTS;
    const ports = fabric.route(port, wire.subarray(4));
    assert.ok(ports.every((to) => to !== port && to >= 0 && to < PORTS));
    at += wire.length;
  });
  try {
    for (const chunk of chunks) decoder.write(chunk);
    assert.ok(input.length - at < 4 || input.readUInt32BE(at) > input.length - at - 4);
    return `frames ${at}`;
  } catch (error) {
    return `${codeOf(error, FrameLengthError)} ${at}`;
  }
}
