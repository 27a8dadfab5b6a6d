import { strict as assert } from 'node:assert';
import { deflateSync } from 'node:zlib';
import { suite } from 'uvu';
import { PrecopyDecoder, type StreamMode } from '../../../proxy/stream/decoder.ts';
import * as b from './builder.ts';
import { CUTS, type Cut } from './cuts.ts';
import { ShadowSink } from './shadow-sink.ts';

const test = suite('streams that decode, cut in every way');

interface Case {
  readonly name: string;
  readonly stream: Buffer;
  /** Calls expected at the end, in order; page contents are checked in `images`. */
  readonly calls: readonly RegExp[];
  readonly images?: Readonly<Record<string, Buffer>>;
  readonly configuration?: Buffer;
  readonly deviceState?: Buffer;
  readonly vmdesc?: string;
  readonly end?: 'walk' | 'json' | 'eof';
  readonly mode?: StreamMode;
}

const zeros = Buffer.alloc(b.PAGE_SIZE);
const poison = Buffer.alloc(b.PAGE_SIZE, 0xee);
const oneBlock = b.start(b.join(b.blockList([{ name: 'm', pages: 2 }]), b.EOS));
/** A stream with one block "m" of two pages and these END items. */
const small = (...items: Buffer[]): Buffer =>
  b.join(b.header, b.configuration(), oneBlock, b.end(...items), b.DEVICES);

const CASES: readonly Case[] = [
  {
    name: 'everything a return-path source sends',
    stream: b.join(
      b.header,
      b.configuration('pc-i440fx-10.0', b.uuid),
      b.openReturnPath,
      b.ramSections,
      b.DEVICES,
      b.vmdesc(b.DEVICES_JSON),
    ),
    calls: [/^machine pc-i440fx-10\.0 4096$/, /^returnPath$/, /^ping 1$/, /^ramEnd$/],
    images: {
      'pc.ram': b.join(zeros, b.pattern(3), b.pattern(2), zeros, ...Array(4).fill(poison)),
      'vga.vram': b.join(zeros, b.pattern(4), poison, poison),
      '/rom@etc/acpi/tables': b.join(b.pattern(5), poison),
    },
    configuration: b.configuration('pc-i440fx-10.0', b.uuid),
    vmdesc: b.DEVICES_JSON,
    end: 'walk',
  },
  {
    name: 'no return path: the end is the transport’s',
    stream: b.join(b.header, b.configuration(), b.ramSections, b.DEVICES, b.vmdesc(b.DEVICES_JSON)),
    calls: [/^machine pc-test 4096$/],
    vmdesc: b.DEVICES_JSON,
    end: 'eof',
  },
  {
    name: 'no VMDESC',
    stream: small(),
    calls: [/^ramEnd$/],
    images: { m: b.join(poison, poison) },
    end: 'eof',
  },
  {
    name: 'a stub VMDESC, as QEMU’s own tools accept',
    stream: b.join(small(), b.vmdesc('{}')),
    calls: [],
    vmdesc: '{}',
    end: 'eof',
  },
  {
    name: 'no device at all',
    stream: b.join(b.header, b.configuration(), oneBlock, b.end(), b.u8(0)),
    calls: [],
    deviceState: b.u8(0),
    end: 'eof',
  },
  {
    name: 'no CONFIGURATION',
    stream: b.join(b.header, oneBlock, b.end(), b.DEVICES),
    calls: [/^machine {2}4096$/],
    configuration: Buffer.alloc(0),
  },
  {
    name: 'empty machine name',
    stream: b.join(b.header, b.configuration(''), oneBlock, b.end(), b.DEVICES),
    calls: [/^machine {2}4096$/],
    configuration: b.configuration(''),
  },
  {
    name: 'pages of 16 KiB',
    stream: b.join(
      b.header,
      b.configuration('virt', b.pageBits(14)),
      b.start(b.join(b.blockList([{ name: 'm', pages: 2 }], 16384), b.EOS)),
      b.end(b.page(16384, b.pattern(1, 16384), 'm'), b.zero(0)),
      b.DEVICES,
    ),
    calls: [/^machine virt 16384$/],
    images: { m: b.join(Buffer.alloc(16384), b.pattern(1, 16384)) },
    configuration: b.configuration('virt', b.pageBits(14)),
  },
  {
    name: 'x-ignore-shared',
    stream: b.join(
      b.header,
      b.configuration('pc', b.capabilities('x-ignore-shared')),
      b.start(
        b.join(
          b.blockList([
            { name: 'm0', pages: 1, address: 0 },
            { name: 'm1', pages: 3, address: 0x1_0000_0000 },
          ]),
          b.EOS,
        ),
      ),
      b.end(),
      b.DEVICES,
    ),
    calls: [
      /"m0","usedLength":4096,"pageSize":4096,"guestAddress":0.*"guestAddress":4294967296/,
      /^ramEnd$/,
    ],
    configuration: b.configuration('pc', b.capabilities('x-ignore-shared')),
  },
  {
    name: 'a zero page of another byte',
    stream: small(b.zero(4096, 'm', 0x7f), b.zero(0, undefined, 0x80)),
    calls: [/^page 0 4096 /, /^page 0 0 /],
    images: { m: b.join(Buffer.alloc(b.PAGE_SIZE, 0x80), Buffer.alloc(b.PAGE_SIZE, 0x7f)) },
  },
  {
    name: 'XBZRLE over a page, a zero page and its own result',
    stream: small(
      b.page(0, b.pattern(1), 'm'),
      b.zero(4096),
      b.xbzrle(0, b.u8(0, 2, 0xf0, 0xf1, 0x83, 0x01, 1, 0xf2)),
      b.xbzrle(4096, b.u8(0xff, 0x1f, 1, 0x99)),
      b.xbzrle(4096, b.u8(0, 1, 0x11)),
      b.xbzrle(0, Buffer.alloc(0)),
    ),
    calls: [/^load 0 0$/, /^page 0 0 /, /^load 0 4096$/],
    images: {
      m: b.join(
        b.join(
          b.u8(0xf0, 0xf1),
          b.pattern(1).subarray(2, 133),
          b.u8(0xf2),
          b.pattern(1).subarray(134),
        ),
        b.join(b.u8(0x11), Buffer.alloc(4094), b.u8(0x99)),
      ),
    },
  },
  {
    name: 'zlib pages',
    stream: small(
      b.zlibPage(0, deflateSync(b.pattern(9), { level: 1 }), 'm'),
      b.zlibPage(4096, deflateSync(zeros, { level: 0 })),
    ),
    calls: [/^page 0 0 /, /^page 0 4096 /],
    images: { m: b.join(b.pattern(9), zeros) },
  },
  {
    name: 'SWITCHOVER_START before RAM END',
    stream: b.join(
      b.header,
      b.configuration(),
      oneBlock,
      b.part(b.zero(0, 'm')),
      b.command(11),
      b.end(b.zero(4096)),
      b.DEVICES,
    ),
    calls: [/^zero 0 0$/, /^zero 0 4096$/, /^ramEnd$/],
  },
  {
    name: 'background-snapshot',
    mode: 'background',
    stream: b.join(
      b.header,
      b.configuration(),
      oneBlock,
      b.part(b.zero(0, 'm'), b.zero(4096)),
      b.DEVICES,
      b.vmdesc(b.DEVICES_JSON),
    ),
    calls: [/^zero 0 4096$/, /^ramEnd$/, /^complete /],
    images: { m: b.join(zeros, zeros) },
    vmdesc: b.DEVICES_JSON,
    end: 'eof',
  },
];

function decode(given: Case, cut: Cut): ShadowSink {
  const sink = new ShadowSink();
  const options = given.mode === undefined ? {} : { mode: given.mode };
  const decoder = new PrecopyDecoder(sink, {}, options);
  for (const chunk of cut.chunks(given.stream)) {
    // The decoder must not keep a view of a chunk: scribble over it after each call.
    const copy = Buffer.from(chunk);
    decoder.write(copy);
    copy.fill(0xdd);
  }
  assert.equal(decoder.phase, given.end === 'walk' ? 'complete' : 'tail');
  decoder.end();
  assert.equal(decoder.phase, 'complete');
  assert.equal(decoder.position, given.stream.length);
  assert.equal(decoder.counters.bytes, given.stream.length);
  return sink;
}

function check(given: Case, cut: Cut): void {
  const sink = decode(given, cut);
  let from = 0;
  for (const expected of given.calls) {
    const index = sink.calls.findIndex((call, at) => at >= from && expected.test(call));
    assert.ok(index >= 0, `no call ${expected}, in this order, in\n${sink.calls.join('\n')}`);
    from = index + 1;
  }
  assert.equal(sink.calls.filter((call) => call === 'ramEnd').length, 1);
  for (const [name, image] of Object.entries(given.images ?? {})) {
    assert.ok(sink.image(name).equals(image), `image of ${name} differs`);
  }
  const result = sink.result;
  assert.ok(result);
  const { configuration, deviceState, vmdesc, end } = result;
  assert.deepEqual(Buffer.from(configuration), given.configuration ?? b.configuration());
  assert.deepEqual(Buffer.from(deviceState), given.deviceState ?? b.DEVICES);
  assert.equal(vmdesc, given.vmdesc);
  assert.equal(end, given.end ?? 'eof');
}

for (const given of CASES) {
  for (const cut of CUTS) test(`${given.name}, ${cut.name}`, () => check(given, cut));
}

test('the calls are the same for every cut', () => {
  for (const given of CASES) {
    const whole = decode(given, { name: 'whole', chunks: (stream) => [stream] }).calls;
    for (const cut of CUTS) assert.deepEqual(decode(given, cut).calls, whole, cut.name);
  }
});

test('offsets above 4 GiB are exact', () => {
  const blocks = [
    { name: 'm', pages: 1 },
    { name: 'big', pages: 0x30_0000 },
  ];
  const offset = 0x2_ffff_f000;
  // Numbers this large do not survive the builder's `|`: the items are written out.
  const items = b.join(
    b.join(b.be64(BigInt(offset) | 8n), b.cstr('big'), b.pattern(1)),
    b.join(b.be64(0x1_0000_0000n | 0x22n), b.u8(0)),
    b.join(b.be64(BigInt(offset) | 0x28n), b.pattern(2)),
  );
  const list = b.join(
    b.be64(0x3_0000_1000n | 4n),
    ...blocks.map(({ name, pages }) => b.join(b.cstr(name), b.be64(pages * b.PAGE_SIZE))),
  );
  const stream = b.join(b.header, b.start(b.join(list, b.EOS)), b.end(items), b.DEVICES);
  const seen: string[] = [];
  const decoder = new PrecopyDecoder({
    machine() {},
    blocks: (given) => seen.push(given.map((block) => block.usedLength).join()),
    page: (block, at) => seen.push(`page ${block} ${at}`),
    zero: (block, at) => seen.push(`zero ${block} ${at}`),
    load() {},
    returnPath() {},
    ping() {},
    ramEnd() {},
    complete() {},
  });
  decoder.write(stream);
  decoder.end();
  const pages = [`page 1 ${offset}`, 'zero 1 4294967296', `page 1 ${offset}`];
  assert.deepEqual(seen, ['4096,12884901888', ...pages]);
});

test('phases, counters and the trace of sections', () => {
  const sink = new ShadowSink();
  const sections: string[] = [];
  const traced = Object.assign(sink, { section: (name: string) => sections.push(name) });
  const decoder = new PrecopyDecoder(traced);
  const phases: string[] = [];
  const list = b.join(b.blockList(b.BLOCKS), b.EOS);
  const steps = [
    b.header,
    b.join(b.configuration(), b.openReturnPath),
    b.start(list),
    b.part(b.page(0, b.pattern(1), 'pc.ram'), b.zero(4096), b.xbzrle(0, b.u8(0, 1, 7))),
    b.part(b.zlibPage(8192, deflateSync(b.pattern(2)), 'pc.ram')),
    b.end(),
    b.DEVICES,
    b.vmdesc(b.DEVICES_JSON),
  ];
  for (const step of steps) {
    decoder.write(step);
    phases.push(decoder.phase);
  }
  const expected = ['header', 'header', 'ram', 'ram', 'ram', 'tail', 'tail', 'complete'];
  assert.deepEqual(phases, expected);
  assert.deepEqual(decoder.counters, {
    bytes: b.join(...steps).length,
    normalPages: 1,
    zeroPages: 1,
    xbzrlePages: 1,
    compressedPages: 1,
    ramSections: 4,
  });
  assert.deepEqual(sections, [
    'CONFIGURATION',
    'COMMAND OPEN_RETURN_PATH',
    'COMMAND PING',
    'ram START',
    'ram PART',
    'ram PART',
    'ram END',
    'device state',
  ]);
});

test.run();
