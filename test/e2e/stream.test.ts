/**
 * Streams of real QEMUs are decoded correctly, and streams of the encoder are loaded by them.
 *
 * The measure of a live stream is the memory of a QEMU that loads the same bytes, not that of the
 * source: under TCG, QEMU before 9.0 can miss a guest's write while it migrates (QEMU commit
 * 03bfc2188f), so that source and destination differ through no fault of the stream. The source's
 * memory is compared where the VM was stopped before.
 */
import { strict as assert } from 'node:assert';
import { createReadStream, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { suite } from 'uvu';
import { PAGE_BYTES } from '../../proxy/host/linux.ts';
import { PrecopyDecoder, type StreamMode } from '../../proxy/stream/decoder.ts';
import { type EncodeOptions, encodePrecopy } from '../../proxy/stream/encoder.ts';
import { pong, shut } from '../../proxy/stream/return-path.ts';
import { parseVmdesc, walkDevices } from '../../proxy/stream/vmdesc.ts';
import type { QemuBinary } from '../../tools/qemu/qemu.ts';
import { atRandom } from '../proxy/stream/cuts.ts';
import { ShadowSink } from '../proxy/stream/shadow-sink.ts';
import { type Answer, BINARIES, Qemu, RAM_BYTES, TempDir } from '../proxy/stream/throwaway-qemu.ts';

const test = suite('real QEMU');

/** Ranges of guest memory that are plain pc.ram: no VGA hole, no ROM windows below 1 MiB. */
const PLAIN: readonly (readonly [number, number])[] = [
  [0, 640 * 1024],
  [1024 * 1024, RAM_BYTES],
];
const PC = ['-machine', 'pc'];

interface Recording {
  readonly sink: ShadowSink;
  readonly decoder: PrecopyDecoder;
  /** Plain memory of the stopped source. */
  readonly memory: readonly Buffer[];
  readonly migration: Answer;
}

async function plainMemory(qemu: Qemu): Promise<Buffer[]> {
  const ranges: Buffer[] = [];
  for (const [from, to] of PLAIN) ranges.push(await qemu.memory(from, to - from));
  return ranges;
}

function assertPlain(image: Buffer, memory: readonly Buffer[], what: string): void {
  for (const [index, [from, to]] of PLAIN.entries()) {
    const range = memory[index];
    assert.ok(range?.equals(image.subarray(from, to)), `${what}: memory from ${from} differs`);
  }
}

/** Boots a VM, lets `prepare` set it up, migrates it to a file and decodes that. */
async function record(
  binary: QemuBinary,
  dir: TempDir,
  prepare: (qemu: Qemu) => Promise<unknown>,
  live: (qemu: Qemu) => Promise<unknown> = async () => {},
  mode: () => StreamMode = () => 'precopy',
): Promise<Recording> {
  const qemu = new Qemu(binary, dir, PC);
  try {
    await (await qemu.open()).busy();
    await prepare(qemu);
    await qemu.qmp('migrate', { uri: `exec:cat > ${dir.file('stream')}` });
    await live(qemu);
    const migration = await qemu.migrated();
    const memory = await plainMemory(qemu);
    const sink = new ShadowSink(false);
    const decoder = new PrecopyDecoder(sink, {}, { mode: mode() });
    for await (const chunk of createReadStream(dir.file('stream'))) decoder.write(chunk);
    decoder.end();
    return { sink, decoder, memory, migration };
  } finally {
    await qemu.close();
  }
}

/** Loads a stream from the encoder into a fresh QEMU; its memory must be the shadow's. */
async function restore(
  binary: QemuBinary,
  dir: TempDir,
  sink: ShadowSink,
  options: Partial<EncodeOptions>,
  machine: readonly string[],
): Promise<void> {
  assert.ok(sink.result);
  const chunks = [...encodePrecopy(sink.source(), { ...sink.result, ...options })];
  writeFileSync(dir.file('restore'), Buffer.concat(chunks));
  const incoming = ['-S', '-incoming', `exec:cat ${dir.file('restore')}`];
  const qemu = new Qemu(binary, dir, [...machine, ...incoming]);
  try {
    await qemu.open();
    await qemu.migrated();
    assertPlain(sink.image('pc.ram'), await plainMemory(qemu), 'restored');
    await qemu.qmp('cont');
    assert.equal((await qemu.qmp('query-status')).status, 'running');
    // It runs on, and the boot sector changes its pages again.
    const before = await qemu.memory(0x10000, 2);
    await qemu.until('the restored guest is busy', async () => {
      return !(await qemu.memory(0x10000, 2)).equals(before);
    });
  } finally {
    await qemu.close();
  }
}

/** Asserts that the shadow equals the memory of a QEMU that loads the recorded bytes. */
async function assertAsQemu(binary: QemuBinary, dir: TempDir, sink: ShadowSink): Promise<void> {
  const incoming = ['-S', '-incoming', `exec:cat ${dir.file('stream')}`];
  const qemu = new Qemu(binary, dir, [...PC, ...incoming]);
  try {
    await qemu.open();
    await qemu.migrated();
    assertPlain(sink.image('pc.ram'), await plainMemory(qemu), 'loaded by QEMU');
  } finally {
    await qemu.close();
  }
}

function assertWhole(sink: ShadowSink): void {
  assert.ok(sink.result);
  assert.ok(sink.ended);
  const vmdesc = parseVmdesc(sink.result.vmdesc ?? '');
  assert.ok(vmdesc, 'no VMDESC');
  const walk = walkDevices(sink.result.deviceState, vmdesc);
  assert.ok(walk.exact, `the walk stops after ${walk.devices.length} devices`);
}

function withDir(body: (dir: TempDir) => Promise<void>): () => Promise<void> {
  return async () => {
    const dir = new TempDir();
    try {
      await body(dir);
    } finally {
      dir.remove();
    }
  };
}

/**
 * Lets pages be re-sent, then ends the dirtying. On a busy host the guest may get no CPU between
 * two scans of the dirty bitmap: QEMU then converges by itself, which is as good an end.
 */
async function somePasses(qemu: Qemu): Promise<void> {
  await qemu.until('four passes', async () => {
    const { ram, status } = await qemu.qmp('query-migrate');
    return !/^(setup|active)$/.test(status ?? '') || (ram?.['dirty-sync-count'] ?? 0) >= 4;
  });
  await qemu.qmp('stop');
}

/**
 * Keeps a migration in its live phase. It is slow, so that the first pass outlasts QEMU's first
 * measurement of bandwidth; if the pass ended earlier, QEMU would switch over. Its downtime limit
 * is less than a page takes, but not 0, at which QEMU never looks at the dirty bitmap again.
 */
async function keepLive(qemu: Qemu): Promise<void> {
  await qemu.qmp('migrate-set-parameters', { 'max-bandwidth': 1 << 20, 'downtime-limit': 1 });
}

for (const binary of BINARIES) {
  test(
    `QEMU ${binary.version}: to a file, decoded, encoded, restored`,
    withDir(async (dir) => {
      const stop = (qemu: Qemu): Promise<unknown> => qemu.qmp('stop');
      const { sink, decoder, migration, memory } = await record(binary, dir, stop);
      assertWhole(sink);
      assertPlain(sink.image('pc.ram'), memory, 'shadow');
      // QEMU's own accounting of the same stream.
      assert.equal(decoder.counters.zeroPages, migration.ram?.duplicate);
      assert.equal(decoder.counters.normalPages, migration.ram?.normal);

      const again = new ShadowSink(false);
      const second = new PrecopyDecoder(again);
      assert.ok(sink.result);
      const chunks = [...encodePrecopy(sink.source(), sink.result)];
      for (const chunk of atRandom(Buffer.concat(chunks), 7, 200_000)) second.write(chunk);
      second.end();
      assert.deepEqual(again.list, sink.list);
      for (const [index, image] of sink.images.entries()) {
        assert.ok(again.images[index]?.equals(image), `block ${index} differs`);
      }
      assert.deepEqual(again.result, { ...sink.result, end: 'eof' });

      await restore(binary, dir, sink, {}, PC);
      const index = sink.list.findIndex((block) => block.idstr === 'pc.ram');
      // A new QEMU's memory is zero: it needs no zero page.
      const only = new Map([[index, nonZeroPages(sink.image('pc.ram'))]]);
      await restore(binary, dir, sink, { only, vmdesc: undefined }, PC);

      const file = dir.file('pc.ram');
      writeFileSync(file, sink.image('pc.ram'));
      const backend = `memory-backend-file,id=pc.ram,size=64M,mem-path=${file},share=off`;
      const mapped = ['-machine', 'pc,memory-backend=pc.ram', '-object', backend];
      await restore(binary, dir, sink, { omit: new Set([index]) }, mapped);
    }),
  );

  test(
    `QEMU ${binary.version}: return path, the end seen in band`,
    withDir(async (dir) => {
      const qemu = new Qemu(binary, dir, PC);
      const path = dir.file('migration');
      const sink = new ShadowSink(false);
      const decoder = new PrecopyDecoder(sink);
      const chunks: Buffer[] = [];
      const seen: { socket?: Socket; closed: boolean; error?: unknown } = { closed: false };
      const server: Server = createServer((socket) => {
        seen.socket = socket;
        sink.ping = (value) => void socket.write(pong(value));
        socket
          .on('error', () => {})
          .on('close', () => {
            seen.closed = true;
          });
        socket.on('data', (chunk) => {
          chunks.push(chunk);
          try {
            decoder.write(chunk);
          } catch (error) {
            seen.error = error;
            socket.destroy();
          }
        });
      });
      try {
        server.listen(path);
        await (await qemu.open()).busy();
        await qemu.capability('return-path');
        await keepLive(qemu);
        await qemu.qmp('migrate', { uri: `unix:${path}` });
        await somePasses(qemu);
        await qemu.until('the decoder completes', async () => {
          assert.ifError(seen.error);
          return decoder.phase === 'complete';
        });
        // QEMU has sent all and waits: the socket is open and the migration undecided.
        assert.equal(seen.closed, false);
        assert.equal(sink.result?.end, 'walk');
        assert.notEqual((await qemu.qmp('query-migrate')).status, 'completed');
        seen.socket?.write(shut(0));
        await qemu.migrated();
        assert.ifError(seen.error);
        assertWhole(sink);
      } finally {
        seen.socket?.destroy();
        server.close();
        await qemu.close();
      }
      writeFileSync(dir.file('stream'), Buffer.concat(chunks));
      await assertAsQemu(binary, dir, sink);
    }),
  );

  test(
    `QEMU ${binary.version}: xbzrle`,
    withDir(async (dir) => {
      const prepare = async (qemu: Qemu): Promise<void> => {
        await qemu.capability('xbzrle');
        await qemu.qmp('migrate-set-parameters', { 'xbzrle-cache-size': RAM_BYTES });
        await keepLive(qemu);
      };
      const live = async (qemu: Qemu): Promise<void> => {
        await qemu.until('xbzrle pages', async () => {
          const { status, 'xbzrle-cache': cache } = await qemu.qmp('query-migrate');
          return status === 'completed' || (cache?.pages ?? 0) > 200;
        });
        await qemu.qmp('stop');
      };
      let recording = await record(binary, dir, prepare, live);
      for (let i = 0; i < 5 && recording.decoder.counters.xbzrlePages === 0; i++) {
        recording = await record(binary, dir, prepare, live); // converged too early, see above
      }
      assertWhole(recording.sink);
      await assertAsQemu(binary, dir, recording.sink);
      // QEMU counts pages that turned out unchanged too, of which nothing is sent.
      const tried = recording.migration['xbzrle-cache']?.pages ?? 0;
      const { xbzrlePages } = recording.decoder.counters;
      assert.ok(xbzrlePages > 0 && xbzrlePages <= tried, `${xbzrlePages} of ${tried} pages`);
    }),
  );

  test(
    `QEMU ${binary.version}: background-snapshot`,
    withDir(async (dir) => {
      let can = true;
      const prepare = async (qemu: Qemu): Promise<void> => {
        // Needs write-protection by userfaultfd from the host's kernel.
        await qemu.capability('background-snapshot').catch(() => {
          can = false;
        });
      };
      const live = async (): Promise<void> => {};
      const mode = (): StreamMode => (can ? 'background' : 'precopy');
      const { sink } = await record(binary, dir, prepare, live, mode);
      if (!can) return console.warn('      background-snapshot: not on this host, NOT TESTED');
      assertWhole(sink);
      await assertAsQemu(binary, dir, sink);
      await assert.rejects(
        async () =>
          new PrecopyDecoder(new ShadowSink(false)).write(readFileSync(dir.file('stream'))),
        { code: 'E_STREAM_BACKGROUND' },
      );
    }),
  );

  test(
    `QEMU ${binary.version}: compress, where QEMU still has it`,
    withDir(async (dir) => {
      let has = true;
      const prepare = async (qemu: Qemu): Promise<void> => {
        has = await qemu.hasCapability('compress');
        if (has) await qemu.capability('compress');
        await qemu.qmp('stop');
      };
      const { sink, decoder, memory } = await record(binary, dir, prepare);
      assertWhole(sink);
      assertPlain(sink.image('pc.ram'), memory, 'shadow');
      assert.equal(decoder.counters.compressedPages > 0, has);
    }),
  );
}

test('there is a QEMU to test with', () => assert.ok(BINARIES.length > 0));

/** Returns the offsets of the pages of an image that are not all zero. */
function nonZeroPages(image: Buffer): number[] {
  const offsets = Array.from({ length: image.length / PAGE_BYTES }, (_, page) => page * PAGE_BYTES);
  return offsets.filter((at) => image.subarray(at, at + PAGE_BYTES).some((byte) => byte !== 0));
}

test.run();
