import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { jsonLines } from '../../../proxy/client/json-lines.ts';

const TEXT = '{"kind":"progress","name":"é€😀"}\n\n[1,2]\n"last"';
const VALUES = [{ kind: 'progress', name: 'é€😀' }, [1, 2], 'last'];

const test = suite('lines of JSON');

async function read(chunks: readonly Uint8Array[], limitChars?: number): Promise<unknown[]> {
  const stream = (async function* () {
    yield* chunks;
  })();
  const found: unknown[] = [];
  for await (const value of jsonLines(stream, limitChars)) found.push(value);
  return found;
}

async function refusal(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'nothing was refused',
    (error: Error) => error.name,
  );
}

test('they are the same wherever the stream is cut', async () => {
  const bytes = Buffer.from(TEXT);
  assert.equal(await read([bytes]), VALUES);
  assert.equal(await read([...bytes].map((byte) => Uint8Array.of(byte))), VALUES);
  for (let at = 0; at <= bytes.length; at++) {
    assert.equal(await read([bytes.subarray(0, at), bytes.subarray(at)]), VALUES, `cut at ${at}`);
  }
});

test('a stream that ends in the middle of a line is refused', async () => {
  assert.is(await refusal(read([Buffer.from('{"a":1}\n{"b":')])), 'SyntaxError');
});

test('a line that does not end is refused before it fills memory', async () => {
  assert.is(await refusal(read([Buffer.from('"'.padEnd(20)), Buffer.alloc(20)], 30)), 'RangeError');
});

test.run();
