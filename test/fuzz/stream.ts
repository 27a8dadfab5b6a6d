/**
 * Fuzzer of the stream decoder: mutated, cut and lying streams, cut into odd chunks.
 *
 *   node --import tsx test/fuzz/stream.ts [--seconds N] [--seed N] [RECORDING …]
 *
 * What must hold for any bytes:
 *   - nothing but a StreamError with a documented code is thrown, and it stays the same one;
 *   - the sink is called no more than the bytes allow, with offsets inside of its blocks;
 *   - the decoder holds no more memory than bytes written and limits allow;
 *   - an unmutated stream decodes the same for every cut.
 * A failure prints the seed of its one input: `--seed N --seconds 0` runs exactly that again.
 */
import { strict as assert } from 'node:assert';
import { readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { deflateSync } from 'node:zlib';
import { PrecopyDecoder } from '../../proxy/stream/decoder.ts';
import { STREAM_ERRORS, StreamError } from '../../proxy/stream/errors.ts';
import type { StreamLimits } from '../../proxy/stream/limits.ts';
import type { PrecopySink, RamBlock } from '../../proxy/stream/sink.ts';
import * as b from '../proxy/stream/builder.ts';
import { atRandom, prng } from '../proxy/stream/cuts.ts';

/** Small, so that lies about lengths meet them. */
const LIMITS: Partial<StreamLimits> = {
  configurationBytes: 4096,
  blockCount: 64,
  ramBytes: 2 ** 33,
  tailBytes: 256 * 1024,
  vmdescBytes: 256 * 1024,
};
/** Carry (a page of 64 KiB), CONFIGURATION, tail with VMDESC; and a kilobyte of small change. */
const HELD_BYTES_MAX = 65536 + 2 * 4096 + 2 * 256 * 1024 + 1024;

const begin = b.join(b.header, b.configuration('pc-i440fx-7.2', b.uuid), b.openReturnPath);
const finish = b.join(b.DEVICES, b.vmdesc(b.DEVICES_JSON));

/** Streams to mutate: between them, every item the decoder knows. */
export const SEED_STREAMS: readonly Buffer[] = [
  b.join(begin, b.ramSections, finish),
  b.join(
    begin,
    b.start(b.join(b.blockList(b.BLOCKS), b.EOS)),
    b.part(
      b.page(0, b.pattern(1), 'pc.ram'),
      b.xbzrle(0, b.u8(0, 2, 1, 2, 0x83, 0x01, 3, 9, 9, 9)),
      b.zlibPage(4096, deflateSync(b.pattern(2))),
      b.zero(0, 'vga.vram', 0x55),
    ),
    b.command(11),
    b.end(b.zero(0, 'pc.ram'), b.zero(4096), b.xbzrle(4096, b.u8(5, 1, 7))),
    finish,
  ),
  b.join(
    b.header,
    b.configuration('virt', b.pageBits(12), b.capabilities('x-ignore-shared')),
    b.start(b.join(b.blockList([{ name: 'mach-virt.ram', pages: 9, address: 2 ** 30 }]), b.EOS)),
    b.end(b.zero(4096, 'mach-virt.ram')),
    b.DEVICES,
  ),
  b.join(b.header, b.start(b.join(b.blockList(b.BLOCKS), b.EOS)), b.part(), finish),
];

const INTERESTING: readonly number[] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x20, 0x22, 0x28, 0x40, 0x60, 0x7b, 0x7d, 0x7e, 0x7f, 0x80, 0xff,
];

/** Streams differ in what can go wrong by place: most mutations fall outside of page bodies. */
export function mutate(stream: Buffer, random: () => number): Buffer {
  let bytes: Buffer = Buffer.from(stream);
  const below = (n: number): number => Math.floor(random() * n);
  const pick = (list: readonly number[]): number => list[below(list.length)] ?? 0;
  const place = (room: number): number => {
    const most = Math.max(1, bytes.length - room);
    // Starts, ends and item heads (page sized strides) hold all the structure.
    const kind = below(4);
    if (kind === 0) return below(Math.min(most, 400));
    if (kind === 1) return Math.max(0, most - 1 - below(Math.min(most, 1000)));
    return below(most);
  };
  for (let count = 1 + below(4); count > 0; count--) {
    const at = place(8);
    switch (below(8)) {
      case 0:
        bytes[at] = pick(INTERESTING);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
        break;
      case 2: // A lie about a length.
        if (at + 4 <= bytes.length)
          bytes.writeUInt32BE(below(2) ? below(70_000) : below(2 ** 32), at);
        break;
      case 3:
        if (at + 8 <= bytes.length)
          bytes.writeBigUInt64BE(BigInt(below(64)) * 4096n + BigInt(pick(INTERESTING)), at);
        break;
      case 4:
        bytes = bytes.subarray(0, below(bytes.length));
        break;
      case 5: // Left out.
        bytes = b.join(bytes.subarray(0, at), bytes.subarray(at + 1 + below(40)));
        break;
      case 6: // Repeated, maybe elsewhere.
        bytes = b.join(
          bytes.subarray(0, at),
          bytes.subarray(place(64)).subarray(0, 1 + below(200)),
          bytes.subarray(at),
        );
        break;
      default: // Garbage.
        bytes = b.join(
          bytes.subarray(0, at),
          Buffer.from(Array.from({ length: below(50) }, () => below(256))),
          bytes.subarray(at),
        );
    }
  }
  return bytes;
}

/** Checks what every sink relies on, and hashes the calls. */
class CheckingSink implements PrecopySink {
  calls = 0;
  hash = 0;
  completed = 0;
  #blocks: readonly RamBlock[] = [];
  #ended = false;

  machine(machineType: string, pageSize: number): void {
    assert.ok(machineType.length <= 256 && pageSize >= 1024 && pageSize <= 65536);
    this.#note(1, pageSize);
  }
  blocks(blocks: readonly RamBlock[]): void {
    assert.ok(blocks.length > 0 && blocks.length <= 64);
    assert.equal(this.#blocks.length, 0);
    this.#blocks = blocks;
    this.#note(2, blocks.length);
  }
  page(block: number, offset: number, chunk: Uint8Array, at: number): void {
    this.#inside(block, offset);
    const size = this.#blocks[block]?.pageSize ?? Number.NaN;
    assert.ok(at >= 0 && at + size <= chunk.length);
    this.#note(chunk[at] ?? -1, chunk[at + size - 1] ?? -1);
  }
  zero(block: number, offset: number): void {
    this.#inside(block, offset);
    this.#note(4, offset);
  }
  load(block: number, offset: number, into: Uint8Array): void {
    this.#inside(block, offset);
    assert.equal(into.length, this.#blocks[block]?.pageSize);
    into.fill(7);
  }
  returnPath(): void {
    this.#note(5, 0);
  }
  ping(value: number): void {
    this.#note(6, value);
  }
  ramEnd(): void {
    assert.equal(this.#ended, false);
    this.#ended = true;
    this.#note(7, 0);
  }
  complete({ deviceState, vmdesc }: { deviceState: Uint8Array; vmdesc: string | undefined }): void {
    assert.ok(this.#ended);
    assert.equal(deviceState.at(-1), 0);
    this.completed++;
    this.#note(deviceState.length, vmdesc?.length ?? -1);
  }
  #inside(block: number, offset: number): void {
    const known = this.#blocks[block];
    assert.ok(known !== undefined && !this.#ended);
    assert.ok(offset >= 0 && offset % known.pageSize === 0 && offset < known.usedLength);
  }
  #note(one: number, two: number): void {
    this.calls++;
    this.hash = (Math.imul(this.hash, 31) + one * 7 + two) | 0;
  }
}

/** Decodes bytes in the given chunks. @returns code and offset, or what was decoded */
function decode(bytes: Buffer, chunks: Iterable<Buffer>, background: boolean): string {
  const sink = new CheckingSink();
  const decoder = new PrecopyDecoder(sink, LIMITS, { mode: background ? 'background' : 'precopy' });
  try {
    for (const chunk of chunks) {
      decoder.write(chunk);
      assert.ok(decoder.position <= decoder.counters.bytes);
      assert.ok(decoder.heldBytes <= HELD_BYTES_MAX, `${decoder.heldBytes} bytes held`);
    }
    decoder.end();
    assert.equal(sink.completed, 1);
    return `complete ${sink.hash}`;
  } catch (error) {
    assert.ok(error instanceof StreamError, `not a StreamError: ${error}`);
    assert.ok(Object.hasOwn(STREAM_ERRORS, error.code));
    assert.ok(error.offset >= 0 && error.offset <= bytes.length);
    assert.equal(decoder.phase, 'failed');
    assert.throws(
      () => decoder.write(b.u8(0)),
      (again) => again === error,
    );
    // In the tail the cut decides when an end or a limit is seen; everywhere else it must not.
    return error.section === 'device state' ? 'tail' : `${error.code} ${error.offset} ${sink.hash}`;
  } finally {
    // The least that makes a call of the sink is a zero page of 9 bytes; a few calls have less.
    assert.ok(sink.calls <= bytes.length / 9 + 8, `${sink.calls} calls for ${bytes.length} bytes`);
  }
}

/** One input, wholly determined by the seed. @throws Error that names the seed */
export function fuzzOne(seed: number, streams: readonly Buffer[] = SEED_STREAMS): string {
  const random = prng(seed);
  try {
    const stream = streams[Math.floor(random() * streams.length)] ?? Buffer.alloc(0);
    const bytes = mutate(stream, random);
    const background = random() < 0.2;
    const whole = decode(bytes, [bytes], background);
    const pieces = decode(bytes, atRandom(bytes, seed, random() < 0.5 ? 40 : 5000), background);
    // A mutated tail may complete in band for one cut and go on for another.
    const inTail = (result: string): boolean => /^(tail|complete)/.test(result);
    assert.ok(whole === pieces || (inTail(whole) && inTail(pieces)), `${whole} but ${pieces}`);
    return whole;
  } catch (cause) {
    throw new Error(`fuzz seed ${seed}: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
    },
  });
  const recorded = positionals.map((path) => readFileSync(path));
  const streams = [...SEED_STREAMS, ...recorded];
  const deadline = Date.now() + Number(values.seconds) * 1000;
  const seen = new Map<string, number>();
  let seed = Number(values.seed);
  do {
    const outcome = fuzzOne(seed++, streams).split(' ')[0] ?? '';
    seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
  } while (Date.now() < deadline);
  process.stdout.write(`${seed - Number(values.seed)} inputs\n`);
  for (const [outcome, count] of [...seen].sort()) process.stdout.write(`${count}\t${outcome}\n`);
}

const started = process.argv[1];
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) main();
