import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FRAME_BYTES_MAX, FrameDecoder, LENGTH_BYTES } from '../../../proxy/switch/frames.ts';
import { wireFrame } from '../../support/switch-peer.ts';

const frames = [
  wireFrame(1, 2, 'first'),
  wireFrame(2, 1),
  Buffer.from([0, 0, 0, 0]),
  wireFrame(0xff, 3, 'x'.repeat(300)),
];
const stream = Buffer.concat(frames);

function decode(chunks: readonly Buffer[]): string[] {
  const seen: string[] = [];
  const decoder = new FrameDecoder((wire) => seen.push(wire.toString('hex')));
  for (const chunk of chunks) decoder.write(chunk);
  return seen;
}

const expected = frames.map((frame) => frame.toString('hex'));

test('whole', () => {
  assert.equal(decode([stream]), expected);
});

test('byte by byte', () => {
  const bytes = Array.from(stream, (byte) => Buffer.from([byte]));
  assert.equal(decode(bytes), expected);
});

test('at every split, with an empty chunk between', () => {
  for (let at = 0; at <= stream.length; at++) {
    const chunks = [stream.subarray(0, at), Buffer.alloc(0), stream.subarray(at)];
    assert.equal(decode(chunks), expected, `split at ${at}`);
  }
});

test('at every pair of splits', () => {
  const short = Buffer.concat(frames.slice(0, 3));
  for (let a = 0; a <= short.length; a++) {
    for (let b = a; b <= short.length; b++) {
      const chunks = [short.subarray(0, a), short.subarray(a, b), short.subarray(b)];
      assert.equal(decode(chunks), expected.slice(0, 3), `splits at ${a} and ${b}`);
    }
  }
});

test('the largest frame passes, in pieces too', () => {
  const wire = Buffer.alloc(LENGTH_BYTES + FRAME_BYTES_MAX, 7);
  wire.writeUInt32BE(FRAME_BYTES_MAX);
  for (const cut of [1, 4, 5, wire.length - 1]) {
    const seen = decode([wire.subarray(0, cut), wire.subarray(cut), stream]);
    assert.is(seen.length, 1 + frames.length);
    assert.is(seen[0], wire.toString('hex'));
  }
});

test('a longer one is refused before a byte of it is kept', () => {
  const wire = Buffer.alloc(LENGTH_BYTES);
  wire.writeUInt32BE(FRAME_BYTES_MAX + 1);
  const refused = (error: Error) => 'code' in error && error.code === 'SWITCH_FRAME_LENGTH';
  assert.throws(() => decode([wire]), refused);
  assert.throws(() => decode([wire.subarray(0, 3), wire.subarray(3)]), refused);
});

test.run();
