import { strict as assert } from 'node:assert';
import { deflateSync } from 'node:zlib';
import { suite } from 'uvu';
import { PrecopyDecoder } from '../../../proxy/stream/decoder.ts';
import { STREAM_ERRORS, StreamError, type StreamErrorCode } from '../../../proxy/stream/errors.ts';
import { DEFAULT_LIMITS, type StreamLimits, verifyLimits } from '../../../proxy/stream/limits.ts';
import * as b from './builder.ts';
import { CUTS } from './cuts.ts';
import { ShadowSink } from './shadow-sink.ts';

const test = suite('streams that are refused, and how');

interface Refusal {
  readonly name: string;
  readonly stream: Buffer;
  readonly code: StreamErrorCode;
  readonly section: string;
  /** Must be in the message: what was seen, by name. */
  readonly says: RegExp;
  readonly limits?: Partial<StreamLimits>;
}

const list = b.join(b.blockList(b.BLOCKS), b.EOS);
const begun = b.join(b.header, b.configuration(), b.start(list));
const inPart = (...items: Buffer[]): Buffer => b.join(begun, b.part(...items));
const config = (...subsections: Buffer[]): Buffer =>
  b.join(b.header, b.configuration('pc', ...subsections), b.start(list));
const afterHeader = (...parts: Buffer[]): Buffer =>
  b.join(b.header, b.configuration(), ...parts, Buffer.alloc(64));
const listing = (payload: Buffer): Buffer => afterHeader(b.start(payload));
const base = b.page(0, b.pattern(1), 'pc.ram');
const code = (...bytes: number[]): Buffer => inPart(base, b.xbzrle(0, b.u8(...bytes)));
const zlib = (body: Buffer): Buffer => inPart(b.zlibPage(0, body, 'pc.ram'));
const tail = b.join(b.header, b.configuration(), b.openReturnPath, b.ramSections, b.DEVICES);

const ram = 'ram PART';
const REFUSALS: readonly Refusal[] = [
  // What the peer should not have been told to do.
  {
    name: 'multifd channel',
    stream: b.join(b.be32(0x11223344), b.be32(1), Buffer.alloc(56)),
    code: 'E_STREAM_MULTIFD',
    section: 'header',
    says: /multifd data channel/,
  },
  {
    name: 'TLS',
    stream: b.u8(0x16, 3, 1, 2, 0, 1, 0, 0),
    code: 'E_STREAM_MAGIC',
    section: 'header',
    says: /0x16030102.*TLS/,
  },
  {
    name: 'HTTP',
    stream: Buffer.from('GET / HTTP/1.1'),
    code: 'E_STREAM_MAGIC',
    section: 'header',
    says: /0x47455420/,
  },
  {
    name: 'version 2',
    stream: b.join(Buffer.from('QEVM'), b.be32(2)),
    code: 'E_STREAM_VERSION',
    section: 'header',
    says: /version 2/,
  },
  {
    name: 'MULTIFD_FLUSH',
    stream: inPart(b.be64(0x200)),
    code: 'E_STREAM_MULTIFD',
    section: ram,
    says: /MULTIFD_FLUSH/,
  },
  {
    name: 'RDMA hook',
    stream: inPart(b.be64(0x80)),
    code: 'E_STREAM_RDMA',
    section: ram,
    says: /hook/,
  },
  ...(
    [
      [3, 16, 'POSTCOPY_ADVISE', 'E_STREAM_POSTCOPY'],
      [3, 0, 'POSTCOPY_ADVISE', 'E_STREAM_POSTCOPY'],
      [4, 0, 'POSTCOPY_LISTEN', 'E_STREAM_POSTCOPY'],
      [5, 0, 'POSTCOPY_RUN', 'E_STREAM_POSTCOPY'],
      [6, 9, 'POSTCOPY_RAM_DISCARD', 'E_STREAM_POSTCOPY'],
      [7, 4, 'PACKAGED', 'E_STREAM_POSTCOPY'],
      [8, 0, 'ENABLE_COLO', 'E_STREAM_COLO'],
      [9, 0, 'POSTCOPY_RESUME', 'E_STREAM_POSTCOPY'],
      [10, 5, 'RECV_BITMAP', 'E_STREAM_POSTCOPY'],
      [0, 0, 'INVALID', 'E_STREAM_COMMAND'],
      [12, 0, '12', 'E_STREAM_COMMAND'],
      [0xffff, 0xffff, '65535', 'E_STREAM_COMMAND'],
      [1, 4, 'OPEN_RETURN_PATH', 'E_STREAM_COMMAND'],
      [2, 8, 'PING', 'E_STREAM_COMMAND'],
      [11, 1, 'SWITCHOVER_START', 'E_STREAM_COMMAND'],
    ] as const
  ).map(([number, length, name, expected]) => ({
    name: `command ${name} of ${length} bytes`,
    stream: afterHeader(b.command(number, Buffer.alloc(length))),
    code: expected,
    section: `COMMAND ${name}`,
    says: new RegExp(number === 0 ? 'command 0' : name),
  })),
  {
    name: 'mapped-ram',
    stream: config(b.capabilities('mapped-ram')),
    code: 'E_STREAM_MAPPED_RAM',
    section: 'CONFIGURATION',
    says: /mapped-ram/,
  },
  {
    name: 'unknown capability',
    stream: config(b.capabilities('x-ignore-shared', 'x-novel')),
    code: 'E_STREAM_CAPABILITY',
    section: 'CONFIGURATION',
    says: /"x-novel"/,
  },
  ...['dirty-bitmap', 'block', '0000:00:03.0/vfio', 'spapr/htab'].map((name) => ({
    name: `iterable ${name}`,
    stream: afterHeader(b.start(Buffer.alloc(0), name)),
    code: 'E_STREAM_ITERABLE' as const,
    section: `${name} START`,
    says: new RegExp(`"${name}"`),
  })),
  {
    name: 'iterable after RAM START',
    stream: b.join(begun, b.start(Buffer.alloc(0), 'dirty-bitmap')),
    code: 'E_STREAM_ITERABLE',
    section: 'dirty-bitmap START',
    says: /"dirty-bitmap"/,
  },
  {
    name: 'early virtio-mem state',
    stream: afterHeader(b.full(1, 'virtio-mem-device-early', Buffer.alloc(9)), b.start(list)),
    code: 'E_STREAM_EARLY_STATE',
    section: 'virtio-mem-device-early FULL',
    says: /"virtio-mem-device-early"/,
  },
  {
    name: 'background-snapshot',
    stream: b.join(inPart(base), b.DEVICES),
    code: 'E_STREAM_BACKGROUND',
    section: 'timer FULL',
    says: /"timer" .* before RAM END/,
  },
  // CONFIGURATION.
  {
    name: 'unknown subsection',
    stream: config(b.subsection('configuration/novel', b.be32(0))),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /"configuration\/novel"/,
  },
  {
    name: 'subsection of version 2',
    stream: config(b.subsection('configuration/uuid', Buffer.alloc(16), 2)),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /version 2/,
  },
  {
    name: 'subsection twice',
    stream: config(b.uuid, b.uuid),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /twice/,
  },
  {
    name: 'CONFIGURATION twice',
    stream: b.join(b.header, b.configuration(), b.configuration()),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /first section/,
  },
  {
    name: 'CONFIGURATION late',
    stream: b.join(begun, b.configuration()),
    code: 'E_STREAM_CONFIGURATION',
    section: 'CONFIGURATION',
    says: /first section/,
  },
  ...[0, 9, 17, 0xffffffff].map((bits) => ({
    name: `page of 2^${bits} bytes`,
    stream: config(b.pageBits(bits)),
    code: 'E_STREAM_LIMIT' as const,
    section: 'CONFIGURATION',
    says: /target-page-bits/,
  })),
  // Sections.
  {
    name: 'subsection outside of CONFIGURATION',
    stream: b.join(begun, b.uuid),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x5/,
  },
  {
    name: 'subsection without CONFIGURATION',
    stream: b.join(b.header, b.uuid),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x5/,
  },
  {
    name: 'VMDESC early',
    stream: b.join(begun, b.vmdesc('{}')),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x6/,
  },
  {
    name: 'stray footer',
    stream: b.join(begun, b.footer(2)),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x7e/,
  },
  {
    name: 'unknown section type',
    stream: b.join(begun, b.u8(0x42)),
    code: 'E_STREAM_SECTION',
    section: 'section',
    says: /0x42/,
  },
  {
    name: 'RAM START twice',
    stream: b.join(begun, b.start(list)),
    code: 'E_STREAM_SECTION',
    section: 'ram START',
    says: /second START/,
  },
  {
    name: 'PART before START',
    stream: afterHeader(b.part()),
    code: 'E_STREAM_SECTION_ID',
    section: 'PART',
    says: /2 was never started/,
  },
  {
    name: 'PART of an unknown id',
    stream: b.join(begun, b.u8(2), b.be32(77)),
    code: 'E_STREAM_SECTION_ID',
    section: 'PART',
    says: /77 was never started/,
  },
  {
    name: 'PART after END',
    stream: b.join(begun, b.end(), b.part()),
    code: 'E_STREAM_SECTION_ID',
    section: 'PART',
    says: /2 has ended/,
  },
  {
    name: 'EOF before RAM END',
    stream: b.join(begun, b.u8(0)),
    code: 'E_STREAM_TRUNCATED',
    section: 'section',
    says: /before RAM did/,
  },
  {
    name: 'no footer',
    stream: b.join(begun.subarray(0, -5), b.part()),
    code: 'E_STREAM_FOOTER',
    section: 'ram START',
    says: /missing/,
  },
  {
    name: 'footer of another section',
    stream: b.join(begun.subarray(0, -5), b.footer(3)),
    code: 'E_STREAM_FOOTER',
    section: 'ram START',
    says: /of section 3/,
  },
  {
    name: 'RAM version 3',
    stream: afterHeader(b.start(list, 'ram', 3)),
    code: 'E_STREAM_RAM_VERSION',
    section: 'ram START',
    says: /version 3/,
  },
  {
    name: 'RAM instance 1',
    stream: afterHeader(b.start(list, 'ram', 4, 1)),
    code: 'E_STREAM_RAM_VERSION',
    section: 'ram START',
    says: /instance 1/,
  },
  // RAM items.
  ...[0x0, 0x1, 0x20, 0xa, 0x18, 0x30, 0x24, 0x400, 0x800].map((flags) => ({
    name: `flags 0x${flags.toString(16)}`,
    stream: inPart(base, b.be64(flags), Buffer.alloc(16)),
    code: 'E_STREAM_RAM_FLAGS' as const,
    section: ram,
    says: new RegExp(`0x${flags.toString(16)}\\b`),
  })),
  {
    name: 'no block list',
    stream: listing(b.EOS),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /without a block list/,
  },
  {
    name: 'second block list',
    stream: inPart(b.blockList(b.BLOCKS)),
    code: 'E_STREAM_BLOCK_LIST',
    section: ram,
    says: /second/,
  },
  {
    name: 'no RAM',
    stream: listing(b.be64(4)),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /no RAM/,
  },
  {
    name: 'block longer than the total',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(8192))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /8192 bytes, 4096 are left/,
  },
  {
    name: 'empty block',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(0))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /length of 0/,
  },
  {
    name: 'block of half a page',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(2048))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /length of 2048/,
  },
  {
    name: 'block of 2^64 - 4096 bytes',
    stream: listing(b.join(b.be64(4096 | 4), b.cstr('m'), b.be64(2n ** 64n - 4096n))),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /4096 are left/,
  },
  {
    name: 'block twice',
    stream: listing(
      b.blockList([
        { name: 'm', pages: 1 },
        { name: 'm', pages: 1 },
      ]),
    ),
    code: 'E_STREAM_BLOCK_LIST',
    section: 'ram START',
    says: /"m" comes twice/,
  },
  {
    name: 'unknown block',
    stream: inPart(b.zero(0, 'pc.rim')),
    code: 'E_STREAM_BLOCK',
    section: ram,
    says: /"pc.rim"/,
  },
  {
    name: 'nameless block',
    stream: inPart(b.zero(0, '')),
    code: 'E_STREAM_BLOCK',
    section: ram,
    says: /""/,
  },
  {
    name: 'page before the block list',
    stream: listing(b.zero(0, 'pc.ram')),
    code: 'E_STREAM_BLOCK',
    section: 'ram START',
    says: /"pc.ram"/,
  },
  {
    name: 'CONTINUE first',
    stream: inPart(b.zero(0)),
    code: 'E_STREAM_CONTINUE',
    section: ram,
    says: /names no block/,
  },
  ...(
    [
      ['zero page', b.zero(8 * 4096, 'pc.ram')],
      ['zero page, CONTINUE', b.join(b.zero(0, 'pc.ram'), b.zero(8 * 4096))],
      ['page', b.page(8 * 4096, b.pattern(0), 'pc.ram')],
      ['page, CONTINUE', b.join(base, b.page(8 * 4096, b.pattern(0)))],
      ['page of a shorter block', b.join(base, b.zero(0, 'vga.vram'), b.zero(4 * 4096))],
      ['XBZRLE page', b.join(base, b.xbzrle(8 * 4096, b.u8(0, 1, 7)))],
      ['zlib page', b.join(base, b.zlibPage(8 * 4096, Buffer.alloc(9)))],
    ] as const
  ).map(([name, items]) => ({
    name: `${name} outside of its block`,
    stream: inPart(items),
    code: 'E_STREAM_OFFSET' as const,
    section: ram,
    says: /Page at (32768|16384) of block "(pc.ram|vga.vram)"/,
  })),
  {
    name: 'page at 2^64 - 4096',
    stream: inPart(b.be64((2n ** 64n - 4096n) | 0x2n), b.cstr('pc.ram'), b.u8(0)),
    code: 'E_STREAM_OFFSET',
    section: ram,
    says: /Page at 1844/,
  },
  // Lies of encoded pages.
  ...(
    [
      ['encoding 2', inPart(base, b.be64(0x60), b.u8(2, 0, 1, 0)), /encoding 2/],
      ['longer than a page', inPart(base, b.be64(0x60), b.u8(1), b.be16(4097)), /4097/],
      ['a lone byte', code(1), /cut off/],
      ['zrun past the page', code(0x81, 0x20, 1, 7), /unchanged run goes past/],
      ['zrun of 15 bits', code(0x81, 0x80, 1, 7), /14 bits/],
      ['nzrun missing', code(0x81, 0x02), /missing/],
      ['nzrun cut off', code(0x81, 0x02, 1), /missing/],
      ['nzrun 0', code(0, 0, 1), /changed run is empty/],
      ['nzrun of 15 bits', code(0, 0x81, 0x80), /14 bits/],
      ['nzrun past the encoding', code(0, 5, 1, 2, 3, 4), /past the encoding/],
      ['nzrun past the page', code(0xff, 0x1f, 2, 1, 2), /changed run goes past the page/],
      ['second zrun 0', code(0, 1, 9, 0, 1, 9), /unchanged run is empty/],
    ] as const
  ).map(([name, stream, says]) => ({
    name: `XBZRLE: ${name}`,
    stream,
    code: 'E_STREAM_XBZRLE' as const,
    section: ram,
    says,
  })),
  ...(
    [
      ['garbage', zlib(Buffer.alloc(40, 0x55)), /zlib: /],
      ['nothing', zlib(Buffer.alloc(0)), /zlib: /],
      ['less than a page', zlib(deflateSync(Buffer.alloc(4095))), /4095 bytes/],
      ['more than a page', zlib(deflateSync(Buffer.alloc(4097))), /larger than 4096|ERR_BUFFER/],
      ['a bomb', zlib(deflateSync(Buffer.alloc(1 << 21))), /larger than 4096|ERR_BUFFER/],
      ['cut off', zlib(deflateSync(b.pattern(3)).subarray(0, -6)), /zlib: /],
      ['bytes behind', zlib(b.join(deflateSync(b.pattern(3)), b.u8(1))), /1 more byte/],
    ] as const
  ).map(([name, stream, says]) => ({
    name: `zlib: ${name}`,
    stream,
    code: 'E_STREAM_COMPRESSED' as const,
    section: ram,
    says,
  })),
  // Limits.
  {
    name: 'machine type of 2^32 - 1 bytes',
    stream: b.join(b.header, b.u8(7), b.be32(0xffffffff), Buffer.alloc(64)),
    code: 'E_STREAM_LIMIT',
    section: 'CONFIGURATION',
    says: /machine type.*256/,
  },
  {
    name: 'capabilities without end',
    stream: config(
      b.subsection('configuration/capabilities', b.be32(0xffffffff)),
      ...Array.from({ length: 2000 }, () => b.cstr('x-ignore-shared')),
    ),
    code: 'E_STREAM_LIMIT',
    section: 'CONFIGURATION',
    says: /CONFIGURATION section, limit 16384/,
  },
  {
    name: 'zlib page of 4111 bytes',
    stream: inPart(base, b.be64(0x120), b.be32(4111)),
    code: 'E_STREAM_LIMIT',
    section: ram,
    says: /4111 bytes, limit 4110/,
  },
  {
    name: 'subsection name',
    stream: config(b.uuid),
    limits: { idstrBytes: 10 },
    code: 'E_STREAM_LIMIT',
    section: 'CONFIGURATION',
    says: /name, limit 10/,
  },
  {
    name: 'section name',
    stream: afterHeader(b.start(list, 'dirty-bitmap')),
    limits: { idstrBytes: 10 },
    code: 'E_STREAM_LIMIT',
    section: 'START',
    says: /12 bytes, limit 10/,
  },
  {
    name: 'block name in the list',
    stream: begun,
    limits: { idstrBytes: 10 },
    code: 'E_STREAM_LIMIT',
    section: 'ram START',
    says: /20 bytes, limit 10/,
  },
  {
    name: 'block name of a page',
    stream: b.join(
      b.header,
      b.start(b.join(b.blockList([{ name: 'm', pages: 1 }]), b.EOS)),
      b.part(b.zero(0, 'm'.repeat(11))),
    ),
    limits: { idstrBytes: 10 },
    code: 'E_STREAM_LIMIT',
    section: ram,
    says: /11 bytes, limit 10/,
  },
  {
    name: 'blocks',
    stream: begun,
    limits: { blockCount: 2 },
    code: 'E_STREAM_LIMIT',
    section: 'ram START',
    says: /More than 2/,
  },
  {
    name: 'RAM',
    stream: begun,
    limits: { ramBytes: 14 * 4096 - 1 },
    code: 'E_STREAM_LIMIT',
    section: 'ram START',
    says: /57344 bytes of RAM/,
  },
  {
    name: 'default RAM limit',
    stream: listing(b.be64((2n ** 63n) | 4n)),
    code: 'E_STREAM_LIMIT',
    section: 'ram START',
    says: /bytes of RAM/,
  },
  {
    name: 'page size',
    stream: config(b.pageBits(13)),
    limits: { pageBytes: 4096 },
    code: 'E_STREAM_LIMIT',
    section: 'CONFIGURATION',
    says: /13 .*limit 12/,
  },
  {
    name: 'tail, while it grows',
    stream: tail,
    limits: { tailBytes: 10, vmdescBytes: 10 },
    code: 'E_STREAM_LIMIT',
    section: 'device state',
    says: /limit 25/,
  },
  {
    name: 'tail, when it is split',
    stream: b.join(tail, b.vmdesc(b.DEVICES_JSON)),
    limits: { tailBytes: b.DEVICES.length - 1 },
    code: 'E_STREAM_LIMIT',
    section: 'device state',
    says: /of device state/,
  },
  {
    name: 'VMDESC, when it is split',
    stream: b.join(tail, b.vmdesc(b.DEVICES_JSON)),
    limits: { vmdescBytes: b.DEVICES_JSON.length - 1 },
    code: 'E_STREAM_LIMIT',
    section: 'device state',
    says: /of VMDESC/,
  },
  {
    name: 'bytes after the end',
    stream: b.join(tail, b.vmdesc(b.DEVICES_JSON)),
    code: 'E_STREAM_TRAILING',
    section: 'device state',
    says: /1 more byte/,
  },
];

/** Decodes to the error. `extra` is written after the stream, for what shows only then. */
function refusal(given: Refusal, chunks: Iterable<Buffer>): [PrecopyDecoder, StreamError] {
  const decoder = new PrecopyDecoder(new ShadowSink(), given.limits);
  try {
    for (const chunk of chunks) decoder.write(chunk);
    if (given.code === 'E_STREAM_TRAILING') decoder.write(b.u8(0));
  } catch (error) {
    assert.ok(error instanceof StreamError, String(error));
    return [decoder, error];
  }
  throw new Error(`${given.name}: not refused`);
}

for (const given of REFUSALS) {
  test(given.name, () => {
    const offsets = new Set<number>();
    for (const cut of CUTS) {
      const [decoder, error] = refusal(given, cut.chunks(given.stream));
      assert.equal(error.code, given.code, error.message);
      assert.equal(error.section, given.section, error.message);
      assert.match(error.message, given.says);
      assert.ok(error.message.includes(STREAM_ERRORS[given.code]));
      assert.ok(error.offset <= given.stream.length);
      offsets.add(error.offset);
      assert.equal(decoder.phase, 'failed');
      // It stays failed, with the very same error.
      for (const again of [() => decoder.write(b.u8(0)), () => decoder.end()]) {
        assert.throws(again, (thrown) => thrown === error);
      }
    }
    // The offset is the stream's, whatever the chunks. The tail alone is seen chunk by chunk.
    if (given.section !== 'device state') assert.equal(offsets.size, 1);
  });
}

test('the offset is that of the field at fault', () => {
  const before = begun.length + 5;
  const item = b.zero(0, 'pc.ram');
  const given = REFUSALS.find((refused) => refused.name === 'flags 0xa');
  assert.ok(given);
  assert.equal(refusal(given, [given.stream])[1].offset, before + base.length);
  const footerless = b.join(begun, b.part(item).subarray(0, -5), b.footer(9));
  const wrong = { ...given, stream: footerless };
  assert.equal(refusal(wrong, [footerless])[1].offset, before + item.length + 8);
});

test('every code has a case', () => {
  const covered = new Set(REFUSALS.map((given) => given.code));
  assert.deepEqual([...covered].sort(), Object.keys(STREAM_ERRORS).sort());
});

test('every cut-off stream fails as truncated', () => {
  const whole = b.join(
    b.header,
    b.configuration('pc', b.uuid),
    b.openReturnPath,
    b.ramSections,
    b.DEVICES,
    b.vmdesc(b.DEVICES_JSON),
  );
  const eof = whole.length - b.vmdesc(b.DEVICES_JSON).length;
  for (let length = 0; length < whole.length; length++) {
    const sink = new ShadowSink(false);
    const decoder = new PrecopyDecoder(sink);
    decoder.write(whole.subarray(0, length));
    // All device state has come: a machine without VMDESC would end here too.
    if (length === eof) continue;
    assert.throws(
      () => decoder.end(),
      (error) => error instanceof StreamError && error.code === 'E_STREAM_TRUNCATED',
      `${length} of ${whole.length} bytes pass for a stream`,
    );
    assert.equal(sink.result, undefined);
  }
});

test('a stream whose socket closes at once', () => {
  const decoder = new PrecopyDecoder(new ShadowSink());
  assert.throws(() => decoder.end(), { code: 'E_STREAM_TRUNCATED', offset: 0, section: 'header' });
});

test('what a sink throws fails the decoder and comes through', () => {
  const refused = new Error('no room');
  const sink = new ShadowSink();
  sink.blocks = () => {
    throw refused;
  };
  const decoder = new PrecopyDecoder(sink);
  const same = (error: unknown): boolean => error === refused;
  assert.throws(() => decoder.write(begun), same);
  assert.throws(() => decoder.write(begun), same);
  assert.throws(() => decoder.end(), same);
  assert.equal(decoder.phase, 'failed');
});

test('limits are verified', () => {
  assert.deepEqual(verifyLimits(), DEFAULT_LIMITS);
  assert.equal(verifyLimits({ tailBytes: 5 }).tailBytes, 5);
  for (const name of Object.keys(DEFAULT_LIMITS)) {
    for (const value of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      assert.throws(() => verifyLimits({ [name]: value }), new RegExp(`limit ${name} is`));
    }
  }
  const odd: object = { tailbytes: 5 };
  assert.throws(() => verifyLimits(odd), /"tailbytes"/);
  assert.throws(() => new PrecopyDecoder(new ShadowSink(), { blockCount: 0 }), RangeError);
});

test.run();
