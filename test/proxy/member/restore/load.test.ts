/** Encodes a restore's stream before there is a QEMU to take it. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeAhead, type ReadyLoad } from '../../../../proxy/member/restore/load.ts';
import { encodePrecopy } from '../../../../proxy/stream/encoder.ts';
import type { SealedRam } from '../../../../shadow/index.ts';

const PAGE = 4096;
const MIB = 2 ** 20;

const test = suite('load');

/** Makes a shadow of one block that counts how much of it has been read. */
function loadOf(bytes: number): ReadyLoad & { readonly read: () => number } {
  let read = 0;
  const source: ReadyLoad['source'] = {
    blocks: [{ idstr: 'pc.ram', usedLength: bytes, pageSize: PAGE }],
    read: (_block, offset, into, at) => {
      read += PAGE;
      into.fill(1 + ((offset / PAGE) % 250), at, at + PAGE);
      return true;
    },
  };
  const deviceState = Buffer.from([4, 1, 2, 3, 0]);
  const options = { configuration: Buffer.alloc(0), deviceState };
  return { ram: {} as SealedRam, source, options, read: () => read };
}

function joined(chunks: Iterable<Uint8Array>): Buffer {
  return Buffer.concat([...chunks]);
}

for (const mib of [1, 40]) {
  test(`a stream of ${mib} MiB is the same, whatever of it was made ahead`, async () => {
    const load = loadOf(mib * MIB);
    const ahead = joined(await encodeAhead(load));
    assert.ok(ahead.equals(joined(encodePrecopy(load.source, load.options))));
  });
}

test('a short stream is complete before QEMU connects', async () => {
  const load = loadOf(2 * MIB);
  const chunks = await encodeAhead(load);
  assert.is(load.read(), 2 * MIB);
  joined(chunks);
  assert.is(load.read(), 2 * MIB);
});

test('of a long stream, at most 33 MiB are kept in memory', async () => {
  const load = loadOf(80 * MIB);
  const chunks = await encodeAhead(load);
  assert.ok(load.read() >= 31 * MIB && load.read() <= 33 * MIB, `${load.read() / MIB} MiB`);
  joined(chunks);
  assert.is(load.read(), 80 * MIB);
});

test('an invalid device state is reported before QEMU connects', async () => {
  const load = loadOf(MIB);
  const options = { ...load.options, deviceState: Buffer.from('no section') };
  await encodeAhead({ ...load, options }).then(
    () => assert.unreachable(),
    (error: unknown) => assert.instance(error, RangeError),
  );
});

test.run();
