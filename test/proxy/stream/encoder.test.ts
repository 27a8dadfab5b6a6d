import { strict as assert } from 'node:assert';
import { suite } from 'uvu';
import { PrecopyDecoder } from '../../../proxy/stream/decoder.ts';
import {
  type EncodeOptions,
  encodePrecopy,
  type PageSource,
} from '../../../proxy/stream/encoder.ts';
import { pong, shut, switchoverAck } from '../../../proxy/stream/return-path.ts';
import type { RamBlock } from '../../../proxy/stream/sink.ts';
import * as b from './builder.ts';
import { ShadowSink } from './shadow-sink.ts';

const test = suite('the encoder');

const block = (idstr: string, pages: number): RamBlock => ({
  idstr,
  usedLength: pages * b.PAGE_SIZE,
  pageSize: b.PAGE_SIZE,
});
const blocks = [block('pc.ram', 40), block('/rom@etc/acpi/tables', 3), block('vga.vram', 5)];

/**
 * Returns pages of which every third is zero. A zero page dirties `into` nonetheless, as the
 * contract allows.
 */
function source(list: readonly RamBlock[] = blocks): PageSource {
  return {
    blocks: list,
    read(index, offset, into, at) {
      const number = offset / b.PAGE_SIZE + index;
      into.set(b.pattern(number), at);
      return number % 3 !== 0;
    },
  };
}

const base: EncodeOptions = { configuration: b.configuration(), deviceState: b.DEVICES };

function roundTrip(given: PageSource, options: EncodeOptions): ShadowSink {
  const sink = new ShadowSink();
  const decoder = new PrecopyDecoder(sink);
  for (const chunk of encodePrecopy(given, options)) decoder.write(chunk);
  decoder.end();
  return sink;
}

const count = (sink: ShadowSink, call: RegExp): number =>
  sink.calls.filter((line) => call.test(line)).length;

test('an encoded stream is decoded to the same pages, for every size of chunk', () => {
  for (const chunkBytes of [1, 8192, 10_000, 65_536, 1 << 20]) {
    const sink = roundTrip(source(), { ...base, vmdesc: b.DEVICES_JSON, chunkBytes });
    assert.deepEqual(sink.list, blocks);
    for (const [index, { usedLength }] of blocks.entries()) {
      for (let offset = 0; offset < usedLength; offset += b.PAGE_SIZE) {
        const number = offset / b.PAGE_SIZE + index;
        const content = sink.images[index]?.subarray(offset, offset + b.PAGE_SIZE);
        const expected = number % 3 === 0 ? Buffer.alloc(b.PAGE_SIZE) : b.pattern(number);
        assert.ok(content?.equals(expected), `block ${index}, offset ${offset}`);
      }
    }
    assert.deepEqual(Buffer.from(sink.result?.deviceState ?? []), b.DEVICES);
    assert.deepEqual(Buffer.from(sink.result?.configuration ?? []), b.configuration());
    assert.equal(sink.result?.vmdesc, b.DEVICES_JSON);
    assert.equal(count(sink, /^page /) + count(sink, /^zero /), 48);
  }
});

test('no item overruns its chunk, wherever the chunk ends', () => {
  const few = [block('pc.ram', 5), block('n'.repeat(255), 3)];
  for (let chunkBytes = 8700; chunkBytes < 8700 + 4500; chunkBytes += 7) {
    const sink = roundTrip(source(few), { ...base, chunkBytes });
    assert.equal(count(sink, /^(page|zero) /), 8);
  }
});

test('chunks are of the asked size and belong to the consumer', () => {
  const chunks: Uint8Array[] = [];
  const copies: Buffer[] = [];
  for (const chunk of encodePrecopy(source(), { ...base, chunkBytes: 20_000 })) {
    chunks.push(chunk);
    copies.push(Buffer.from(chunk));
  }
  assert.ok(chunks.length > 6);
  assert.ok(chunks.every((chunk) => chunk.length <= 20_000));
  for (const [index, chunk] of chunks.entries()) assert.ok(copies[index]?.equals(chunk));
});

test('blocks are left out, but stay in the list', () => {
  const sink = roundTrip(source(), { ...base, omit: new Set([0]) });
  assert.deepEqual(sink.list, blocks);
  assert.equal(count(sink, /^(page|zero) 0 /), 0);
  assert.equal(count(sink, /^(page|zero) [12] /), 8);
  const none = roundTrip(source(), { ...base, omit: new Set([0, 1, 2]) });
  assert.equal(count(none, /^(page|zero) /), 0);
  assert.ok(none.result);
});

test('a block whose first page is left out is still named', () => {
  const pages: PageSource = { blocks, read: () => true };
  const only = blocks.map(({ usedLength }, index) => {
    const offsets = Array.from({ length: usedLength / b.PAGE_SIZE }, (_, at) => at * b.PAGE_SIZE);
    return [index, offsets.slice(1)] as const;
  });
  const sink = roundTrip(pages, { ...base, only: new Map(only) });
  assert.equal(count(sink, /^page /), 45);
});

test('every byte is that of the wire format', () => {
  const given: PageSource = {
    blocks: [block('m', 3)],
    read(_, offset, into, at) {
      into.set(b.pattern(offset / b.PAGE_SIZE), at);
      return offset !== b.PAGE_SIZE;
    },
  };
  const expected = b.join(
    b.header,
    b.configuration(),
    b.start(b.join(b.blockList([{ name: 'm', pages: 3 }]), b.EOS)),
    b.part(b.page(0, b.pattern(0), 'm'), b.zero(4096), b.page(8192, b.pattern(2))),
    b.end(),
    b.DEVICES,
    b.vmdesc('{}'),
  );
  const actual = b.join(...encodePrecopy(given, { ...base, vmdesc: '{}' }));
  assert.ok(actual.equals(expected));
});

test('guest addresses travel with x-ignore-shared', () => {
  const list = blocks.map((each, index) => ({ ...each, guestAddress: index * 0x1_0000_0000 }));
  const configuration = b.configuration('pc', b.capabilities('x-ignore-shared'));
  const sink = roundTrip(source(list), { ...base, configuration });
  assert.deepEqual(sink.list, list);
});

test('invalid input is refused before the first byte', () => {
  const lists: readonly [readonly RamBlock[], RegExp][] = [
    [[], /No RAM block/],
    [[block('a', 1), block('a', 1)], /"a" comes twice/],
    [[block('a', 0)], /length of 0/],
    [[{ ...block('a', 1), usedLength: 100 }], /length of 100/],
    [[block('a'.repeat(256), 1)], /over 255/],
    [[block('a', 1), { ...block('b', 1), pageSize: 1024 }], /Page sizes differ/],
    [[block('a', 1), { ...block('b', 1), guestAddress: 0 }], /guest address/],
  ];
  for (const [list, says] of lists) {
    assert.throws(() => encodePrecopy(source(list), base).next(), says);
  }
  for (const deviceState of [b.u8(), b.u8(4), b.u8(1, 0), b.DEVICES.subarray(0, -1)]) {
    const options = { ...base, deviceState };
    assert.throws(() => encodePrecopy(source(), options).next(), /device state/);
  }
});

test('return path messages', () => {
  assert.equal(shut(0).toString('hex'), '0001000400000000');
  assert.equal(shut(1).toString('hex'), '0001000400000001');
  assert.equal(pong(0xfffffffe).toString('hex'), '00020004fffffffe');
  assert.equal(switchoverAck().toString('hex'), '00070000');
});

test.run();
