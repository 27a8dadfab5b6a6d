import { strict as assert } from 'node:assert';
import { suite } from 'uvu';
import { PrecopyDecoder } from '../../../proxy/stream/decoder.ts';
import { StreamError } from '../../../proxy/stream/errors.ts';
import { parseVmdesc, walkDevices } from '../../../proxy/stream/vmdesc.ts';
import * as b from './builder.ts';
import { atRandom, bySize, CUTS } from './cuts.ts';
import { ShadowSink } from './shadow-sink.ts';

const test = suite('the end of a stream, seen in band');

const before = b.join(b.header, b.configuration(), b.openReturnPath, b.ramSections);

/** Returns the VMDESC text of FULL sections with one opaque field each. */
function describe(...devices: readonly [name: string, size: number, instance?: number][]): string {
  return JSON.stringify({
    page_size: b.PAGE_SIZE,
    devices: devices.map(([name, size, instance]) => ({
      name,
      instance_id: instance ?? 0,
      size,
      fields: [{ name: 'data', type: 'buffer', size }],
    })),
  });
}

/** Writes chunks after RAM. @returns the byte after which the end was seen, or -1 */
function seenAfter(chunks: Iterable<Buffer>, sink = new ShadowSink(false)): number {
  const decoder = new PrecopyDecoder(sink);
  decoder.write(before);
  let written = 0;
  for (const chunk of chunks) {
    decoder.write(chunk);
    written += chunk.length;
    if (decoder.phase === 'complete') return written;
  }
  return -1;
}

const body = (length: number): Buffer => Buffer.alloc(length, 0x11);
/** Bytes in a device that look like the end of a stream, if only the framing is examined. */
const decoys: Readonly<Record<string, Buffer>> = {
  'a stub': b.join(b.u8(0), b.vmdesc('{}')),
  'JSON that describes nothing': b.join(b.u8(0), b.vmdesc('{"a":{"b":"}"}}')),
  'not JSON': b.join(b.u8(0), b.vmdesc('{"page_size":4096,"devices":[}')),
  'another page size': b.join(b.u8(0), b.vmdesc(describe(['slirp', 5]).replace('4096', '16384'))),
  'another first device': b.join(b.u8(0), b.vmdesc(describe(['timer', 5]))),
  'no device': b.join(b.u8(0), b.vmdesc(describe())),
  'no EOF before': b.join(b.u8(1), b.vmdesc(describe(['slirp', 5]))),
  'braces and NULs': Buffer.from('{"a":{\0\x06\0\0\0\x02{}}}\0\x06\0\0\0\x03{}'),
};

for (const [name, decoy] of Object.entries(decoys)) {
  test(`no decoy deceives at any border: ${name}`, () => {
    const state = b.join(body(20), decoy, body(20));
    const text = describe(['slirp', state.length], ['cpu', 3]);
    const after = b.join(
      b.full(7, 'slirp', state),
      b.full(8, 'cpu', body(3)),
      b.u8(0),
      b.vmdesc(text),
    );
    for (const cut of CUTS) {
      const sink = new ShadowSink(false);
      assert.equal(seenAfter(cut.chunks(after), sink), after.length, cut.name);
      assert.equal(sink.result?.end, 'walk');
      assert.equal(sink.result?.vmdesc, text);
    }
  });
}

test('a perfect decoy needs a border exactly behind it, and then fails the stream', () => {
  // The state up to the decoy is described by the decoy: nothing tells it from an end.
  const text = describe(['slirp', 20]);
  const fake = b.join(b.full(7, 'slirp', body(20)), b.u8(0), b.vmdesc(text));
  const rest = b.join(body(10), b.footer(7), b.u8(0));
  const state = b.join(fake.subarray(19), body(10)); // behind type, id, name, instance, version
  const after = b.join(fake, rest, b.vmdesc(describe(['slirp', state.length])));
  for (const size of [after.length, 4095, fake.length - 1, fake.length + 1]) {
    assert.equal(seenAfter(bySize(after, size)), after.length, `chunks of ${size}`);
  }
  const decoder = new PrecopyDecoder(new ShadowSink());
  decoder.write(before);
  decoder.write(fake);
  assert.equal(decoder.phase, 'complete');
  assert.throws(() => decoder.write(rest), { code: 'E_STREAM_TRAILING' });
});

test('the JSON decides when the walk cannot, if its first device is there', () => {
  const state = b.join(b.full(7, 'slirp', body(20)), b.full(8, 'cpu', body(9)), b.u8(0));
  const texts = [
    describe(['slirp', 20], ['cpu', 8]), // as QEMU before 10.0 describes NULL pointers
    describe(['slirp', 20], ['gpu', 9]),
    describe(['slirp', 20]),
    describe(['slirp', 20], ['cpu', 9], ['more', 1]),
  ];
  for (const text of texts) {
    const after = b.join(state, b.vmdesc(text));
    for (const cut of CUTS) {
      const sink = new ShadowSink(false);
      assert.equal(seenAfter(cut.chunks(after), sink), after.length, cut.name);
      assert.equal(sink.result?.end, 'json');
      assert.ok(Buffer.from(sink.result.deviceState).equals(state));
    }
  }
});

test('descriptions of every length', () => {
  // The last NUL before the JSON may be any byte of the length, or the EOF byte.
  for (const length of [255, 256, 257, 511, 512, 65535, 65536, 65537, 0x10100, 0x10101]) {
    const plain = describe(['timer', 24], ['cpu', 28, 1]);
    const text = `${plain.slice(0, -1)}${' '.repeat(length - plain.length)}}`;
    const after = b.join(b.DEVICES, b.vmdesc(text));
    assert.equal(seenAfter(atRandom(after, length)), after.length, `${length} bytes`);
  }
});

test('a description of over 16 MiB, whose length has no NUL', () => {
  const plain = describe(['timer', 24], ['cpu', 28, 1]);
  const text = `${plain.slice(0, -1)}${' '.repeat(0x01010101 - plain.length)}}`;
  const sink = new ShadowSink(false);
  const decoder = new PrecopyDecoder(sink, { vmdescBytes: 2 ** 25 });
  for (const chunk of bySize(b.join(before, b.DEVICES, b.vmdesc(text)), 65536))
    decoder.write(chunk);
  assert.equal(sink.result?.end, 'walk');
});

test('a wrong length is no end', () => {
  const honest = b.vmdesc(b.DEVICES_JSON);
  for (const lie of [-1, 1, 256, -256]) {
    const section = Buffer.from(honest);
    section.writeUInt32BE(b.DEVICES_JSON.length + lie, 1);
    const stream = b.join(b.DEVICES, section);
    for (const cut of CUTS) assert.equal(seenAfter(cut.chunks(stream)), -1, `${lie}, ${cut.name}`);
    const decoder = new PrecopyDecoder(new ShadowSink());
    decoder.write(b.join(before, stream));
    assert.throws(() => decoder.end(), { code: 'E_STREAM_TRUNCATED' });
  }
});

test('without return path only the transport ends the stream', () => {
  const sink = new ShadowSink();
  const decoder = new PrecopyDecoder(sink);
  const stream = b.join(b.header, b.ramSections, b.DEVICES, b.vmdesc(b.DEVICES_JSON));
  for (const chunk of bySize(stream, 1)) decoder.write(chunk);
  assert.equal(decoder.phase, 'tail');
  decoder.end();
  assert.equal(sink.result?.end, 'eof');
  assert.equal(sink.result?.vmdesc, b.DEVICES_JSON);
});

test('the search for the end is linear in bytes, however they come', () => {
  // Every byte ends a chunk and looks like the end of JSON; a quadratic search takes 40 s.
  const size = 2 * 1024 * 1024;
  const decoder = new PrecopyDecoder(new ShadowSink(false));
  decoder.write(before);
  decoder.write(b.u8(4));
  const brace = b.u8(0x7d);
  const begun = process.cpuUsage(); // processor time: the machine may be busy otherwise
  for (let i = 0; i < size; i++) decoder.write(brace);
  const { user, system } = process.cpuUsage(begun);
  const seconds = (user + system) / 1e6;
  assert.ok(seconds < 10, `${seconds} s for ${size} bytes`);
});

test('the walk: arrays, structs, subsections, and every kind of error', () => {
  const sub = (name: string, payload: Buffer): Buffer =>
    b.join(b.u8(5), b.cstr(name), b.be32(1), payload);
  const inner = sub('dev/a/b', body(2));
  const payload = b.join(
    body(4 * 3 + 7),
    sub('dev/a', b.join(body(5), inner)),
    sub('dev/c', body(0)),
  );
  const state = b.join(b.full(1, 'dev', payload, 9), b.full(2, 'none', body(0)), b.u8(0));
  const device = {
    name: 'dev',
    instance_id: 9,
    fields: [
      { name: 'array', size: 4, array_len: 3 },
      { name: 'struct', size: 7, struct: { fields: [{ size: 1000 }] } },
    ],
    subsections: [
      {
        vmsd_name: 'dev/a',
        fields: [{ size: 5 }],
        subsections: [{ vmsd_name: 'dev/a/b', fields: [{ size: 2 }] }],
      },
      { vmsd_name: 'dev/c' },
    ],
  };
  const walk = (...devices: unknown[]): boolean => {
    const vmdesc = parseVmdesc(JSON.stringify({ page_size: 4096, devices }));
    return vmdesc !== undefined && walkDevices(state, vmdesc).exact;
  };
  const none = { name: 'none', instance_id: 0, fields: [] };
  assert.ok(walk(device, none));
  const vmdesc = parseVmdesc(JSON.stringify({ page_size: 4096, devices: [device, none] }));
  assert.ok(vmdesc);
  assert.deepEqual(
    walkDevices(state, vmdesc).devices.map(({ name, offset, length }) => [name, offset, length]),
    [
      ['dev', 0, payload.length + 17 + 5],
      ['none', payload.length + 22, 18 + 5],
    ],
  );
  const wrong: unknown[] = [
    { ...device, name: 'dew' },
    { ...device, instance_id: 8 },
    { ...device, fields: [] },
    { ...device, fields: [{ size: -19 }] },
    { ...device, fields: [{ size: 1e300 }] },
    { ...device, fields: [{}] },
    { ...device, fields: ['x'] },
    { ...device, fields: 7 },
    { ...device, subsections: [{}] },
    { ...device, subsections: [null] },
  ];
  for (const given of wrong) assert.equal(walk(given, none), false, JSON.stringify(given));
  assert.equal(walk(device), false);
  const described = parseVmdesc(b.DEVICES_JSON);
  assert.ok(described);
  assert.ok(walkDevices(b.DEVICES, described).exact);
  // The EOF byte must be the last one.
  assert.equal(walkDevices(b.join(b.DEVICES, b.u8(0)), described).exact, false);
  assert.equal(walkDevices(b.DEVICES.subarray(0, -1), described).exact, false);
  assert.equal(walk(none, device), false);
  assert.equal(walk(device, none, none), false);
  // Far deeper than the stack: JSON.parse copes, and so must the walk. (JSON.stringify would not.)
  const depth = 100_000;
  const deep = `${'{"vmsd_name":"x","subsections":['.repeat(depth)}{}${']}'.repeat(depth)}`;
  const json = `{"page_size":1,"devices":[{"name":"dev","instance_id":9,"subsections":[${deep}]}]}`;
  const bottomless = parseVmdesc(json);
  assert.ok(bottomless);
  assert.equal(walkDevices(state, bottomless).exact, false);
  for (const text of [
    '',
    '[]',
    '1',
    'null',
    '{}',
    '{"page_size":1,"devices":[1]}',
    '{"devices":[]}',
  ]) {
    assert.equal(parseVmdesc(text), undefined, text);
  }
});

test('a tail without VMDESC is whole only behind the footer of a section it holds', () => {
  const stream = b.join(before, b.DEVICES);
  const cases: readonly [Buffer, boolean][] = [
    [stream, true],
    [b.join(before, b.u8(0)), true],
    [b.join(before, b.TIMER), false],
    [b.join(before, b.TIMER, b.u8(0, 0)), false],
    [b.join(before, b.full(3, 'x', body(4)).subarray(0, -5), b.footer(4), b.u8(0)), false],
    [b.join(before, b.footer(0).fill(4, 0, 1), b.u8(0)), false],
    [b.join(stream, b.u8(6, 0)), false],
  ];
  for (const [given, whole] of cases) {
    const decoder = new PrecopyDecoder(new ShadowSink());
    decoder.write(given);
    const close = (): void => decoder.end();
    if (whole) close();
    else assert.throws(close, (error) => error instanceof StreamError);
  }
});

test.run();
