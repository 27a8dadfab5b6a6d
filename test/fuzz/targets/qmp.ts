/**
 * Fuzz target: QMP's framing and messages. Nothing but a QmpError is thrown. No line is longer than
 * the limit, and no more than that is kept. The lines are the same however the bytes are cut.
 */
import { strict as assert } from 'node:assert';
import { crc32 } from 'node:zlib';
import { QmpError } from '../../../qmp/errors.ts';
import { LineFramer } from '../../../qmp/framing.ts';
import { parseMessage } from '../../../qmp/protocol.ts';
import { atRandom } from '../../proxy/stream/cuts.ts';
import { mutateLines } from '../mutate-lines.ts';
import { codeOf, type Target } from '../target.ts';

/** Limit of a line, small so that inputs reach it. */
const LIMIT_BYTES = 2_000;

export const target: Target = {
  covers: ['qmp/framing.ts', 'qmp/protocol.ts'],
  inputBytesMax: 8_000,
  words: ['{"return": {}, "id": 1}\r\n', '"event"', '"QMP"', '"error"', '\r\n', '\n'],
  mutate: mutateLines,
  check(input) {
    const whole = read([input]);
    assert.equal(read(atRandom(input, crc32(input), 60)), whole);
    return whole.split(' ').at(-1) ?? '';
  },
};

/** Decodes the input. @returns the kinds of the messages, and how decoding ended */
function read(chunks: Iterable<Buffer>): string {
  const framer = new LineFramer(LIMIT_BYTES);
  const seen: string[] = [];
  try {
    for (const chunk of chunks) {
      framer.push(chunk, (line) => {
        assert.ok(line.length > 0 && Buffer.byteLength(line) <= 3 * LIMIT_BYTES);
        const message = parseMessage(line);
        if (message.kind === 'event') assert.equal(typeof message.event.timestampUs, 'number');
        if (message.kind === 'greeting') assert.equal(typeof message.version.major, 'number');
        seen.push(message.kind);
      });
    }
    return [...seen, 'end'].join(' ');
  } catch (error) {
    return [...seen, codeOf(error, QmpError)].join(' ');
  }
}
