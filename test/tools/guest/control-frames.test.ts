import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  COMMAND_BYTES_MAX,
  encodeHello,
  encodeKill,
  encodeRun,
  type GuestReply,
  parseReply,
  ReplyDecoder,
} from '../../../tools/guest/control-frames.ts';

const binary = Buffer.from([0, 10, 13, 255, 58, 58]);
const stream = Buffer.from(
  [
    'the tail of a reply that another client began to read',
    '::ready',
    `::out a-1 ${binary.toString('base64')}`,
    '',
    '::rc a-1 0',
    '::no a-2 too many commands at once',
    '::rc a-3 139',
    '',
  ].join('\n'),
);
const replies: GuestReply[] = [
  { kind: 'ready' },
  { kind: 'output', id: 'a-1', bytes: binary },
  { kind: 'exit', id: 'a-1', exitCode: 0 },
  { kind: 'refused', id: 'a-2', reason: 'too many commands at once' },
  { kind: 'exit', id: 'a-3', exitCode: 139 },
];

function decode(...chunks: Buffer[]): GuestReply[] {
  const seen: GuestReply[] = [];
  const decoder = new ReplyDecoder((reply) => seen.push(reply));
  for (const chunk of chunks) decoder.write(chunk);
  return seen;
}

test('whole, byte by byte, and at every split', () => {
  assert.equal(decode(stream), replies);
  assert.equal(decode(...Array.from(stream, (byte) => Buffer.from([byte]))), replies);
  for (let at = 0; at <= stream.length; at++) {
    assert.equal(decode(stream.subarray(0, at), stream.subarray(at)), replies, `split at ${at}`);
  }
});

test('entered at any byte, it finds the next whole reply and invents none', () => {
  for (let at = 1; at < stream.length; at++) {
    const seen = decode(stream.subarray(at));
    assert.equal(seen, replies.slice(replies.length - seen.length), `from byte ${at}`);
  }
  assert.equal(decode(stream.subarray(stream.indexOf('::rc a-1') + 1)), replies.slice(3));
});

test('a line that is no reply is dropped', () => {
  const junk = [
    '',
    ':',
    '::',
    '::rc',
    '::rc ',
    '::rc a-1',
    '::rc a-1 x',
    '::rc a-1 1000',
    '::rc a-1 256',
    '::rc a-1 -1',
    '::out a-1',
    '::out a-1 not*base64',
    '::no a-1',
    '::run a-1 4 dHJ1ZQ==',
    'rc a-1 0',
    ' ::ready',
    '::ready ',
  ];
  for (const line of junk) assert.is(parseReply(line), undefined, line);
});

test('an endless line is not kept, and the line after it is read', () => {
  const endless = Buffer.alloc(4096, 'x');
  const chunks = Array.from({ length: 100 }, () => endless);
  assert.equal(decode(...chunks, Buffer.from('\n::ready\n')), [{ kind: 'ready' }]);
  // Nor is it taken when it comes in one piece.
  assert.equal(decode(Buffer.from(`::no a-1 ${'x'.repeat(9000)}\n::ready\n`)), [{ kind: 'ready' }]);
  // Its end alone is not taken for a reply, were it to look like one.
  assert.equal(decode(...chunks, Buffer.from('::ready\n')), []);
});

test('requests are lines of their own that say how long the command is', () => {
  assert.is(encodeRun('a-1', 'echo ü\ntrue'), '\n::run a-1 12 ZWNobyDDvAp0cnVl\n');
  assert.is(encodeRun('a-1', ''), '\n::run a-1 0 \n');
  assert.is(encodeKill('a-1'), '\n::kill a-1\n');
  assert.is(encodeHello(), '\n::hello\n');
  assert.throws(
    () => encodeRun('a-1', 'x'.repeat(COMMAND_BYTES_MAX + 1)),
    /command of 65537 bytes/,
  );
});

test.run();
