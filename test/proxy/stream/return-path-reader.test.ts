import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pong, shut, switchoverAck } from '../../../proxy/stream/return-path.ts';
import { ReturnPathReader } from '../../../proxy/stream/return-path-reader.ts';
import { be16, be32, join } from './builder.ts';

const message = (type: number, payload: Uint8Array) =>
  join(be16(type), be16(payload.length), payload);
const requestPages = message(3, Buffer.alloc(20, 0x11));

const cases: readonly [string, Buffer, number | undefined][] = [
  ['nothing', Buffer.alloc(0), undefined],
  ['no verdict yet', join(pong(1), switchoverAck()), undefined],
  ['loaded', join(pong(1), shut(0)), 0],
  ['refused', join(pong(1), requestPages, shut(1)), 1],
  ['a verdict cut short', shut(0).subarray(0, 7), undefined],
  ['behind a bitmap nothing can be told', join(message(5, be32(0)), shut(0)), undefined],
  ['not a return path at all', join(be16(0x1603), Buffer.alloc(64), shut(0)), undefined],
];

for (const [name, bytes, verdict] of cases) {
  test(`${name}: whole, byte by byte, and cut everywhere`, () => {
    const read = (...chunks: Uint8Array[]) => {
      const reader = new ReturnPathReader();
      for (const chunk of chunks) reader.write(chunk);
      return reader.verdict;
    };
    assert.is(read(bytes), verdict);
    assert.is(read(...Array.from(bytes, (byte) => Uint8Array.of(byte))), verdict);
    for (let cut = 0; cut <= bytes.length; cut++) {
      assert.is(read(bytes.subarray(0, cut), bytes.subarray(cut)), verdict);
    }
  });
}

test.run();
