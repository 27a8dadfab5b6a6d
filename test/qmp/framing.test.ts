import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LineFramer } from '../../qmp/framing.ts';

const CASES: readonly (readonly [name: string, bytes: string, lines: readonly string[]])[] = [
  ['one message', '{"return":{}}\r\n', ['{"return":{}}']],
  ['two in one chunk', '{"a":1}\r\n{"b":2}\r\n', ['{"a":1}', '{"b":2}']],
  ['bare line feeds', '{"a":1}\n{"b":2}\n', ['{"a":1}', '{"b":2}']],
  ['empty lines are nothing', '\r\n\r\n{"a":1}\r\n', ['{"a":1}']],
  ['an unfinished line waits', '{"a":1}\r\n{"b"', ['{"a":1}']],
  ['characters of several bytes', '{"name":"žlutý 🐎"}\r\n', ['{"name":"žlutý 🐎"}']],
];

const test = suite('qmp framing');

for (const [name, text, expected] of CASES) {
  test(name, () => {
    const bytes = Buffer.from(text);
    for (let size = 1; size <= bytes.length; size++) {
      const framer = new LineFramer();
      const lines: string[] = [];
      for (let at = 0; at < bytes.length; at += size) {
        framer.push(bytes.subarray(at, at + size), (line) => lines.push(line));
      }
      assert.equal(lines, expected, `in chunks of ${size}`);
    }
  });
}

test('a line over the limit is refused, however it is cut', () => {
  for (const size of [1, 7, 64]) {
    const framer = new LineFramer(32);
    const push = () => {
      for (let sent = 0; sent < 64; sent += size) {
        framer.push(Buffer.alloc(size, 0x20), () => {});
      }
    };
    assert.throws(push, (error: { code?: string }) => error.code === 'E_QMP_FRAME');
  }
});

test('any number of lines within the limit is accepted', () => {
  const framer = new LineFramer(8);
  let count = 0;
  for (let n = 0; n < 100; n++) framer.push(Buffer.from('{"a":1}\n'), () => count++);
  assert.is(count, 100);
});

test.run();
