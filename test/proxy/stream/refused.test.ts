import { strict as assert } from 'node:assert';
import { suite } from 'uvu';
import { PrecopyDecoder } from '../../../proxy/stream/decoder.ts';
import { STREAM_ERRORS, StreamError } from '../../../proxy/stream/errors.ts';
import { DEFAULT_LIMITS, verifyLimits } from '../../../proxy/stream/limits.ts';
import * as b from './builder.ts';
import { CUTS } from './cuts.ts';
import { CONFIGURATION } from './refusals/configuration.ts';
import { ENCODED_PAGES } from './refusals/encoded-pages.ts';
import { FEATURES } from './refusals/features.ts';
import { LIMITS } from './refusals/limits.ts';
import { RAM_ITEMS } from './refusals/ram-items.ts';
import { base, begun, type Refusal } from './refusals/refusal.ts';
import { SECTIONS } from './refusals/sections.ts';
import { ShadowSink } from './shadow-sink.ts';

const test = suite('streams that are refused, and how');

/** All refusals, of one table for each kind of fault, in refusals/. */
const REFUSALS: readonly Refusal[] = [
  ...FEATURES,
  ...CONFIGURATION,
  ...SECTIONS,
  ...RAM_ITEMS,
  ...ENCODED_PAGES,
  ...LIMITS,
];

/** Decodes to the error. A byte is written after a stream whose fault is what follows it. */
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
  // One memory for all: what it holds is not looked at, and to make it takes longer than the rest.
  let images: readonly Buffer[] | undefined;
  for (let length = 0; length < whole.length; length++) {
    const sink = new ShadowSink(false);
    sink.blocks = (list) => {
      sink.list = [...list];
      images ??= list.map(({ usedLength }) => Buffer.alloc(usedLength));
      sink.images.push(...images);
    };
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

test('an error thrown by the sink fails the decoder and is passed on', () => {
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
