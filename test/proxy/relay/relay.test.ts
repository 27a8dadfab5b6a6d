/** The relay on real sockets: what one side does is what the other sees. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { pong, shut } from '../../../proxy/stream/return-path.ts';
import * as stream from '../stream/builder.ts';
import { ending, type RelayBed, take, takeAll, type Wire, withBed } from './relay-bed.ts';

const MiB = 2 ** 20;
const RAM = [{ name: 'pc.ram', pages: 256 }];
const multifd = (channel: number) =>
  Buffer.concat([stream.be32(0x11223344), stream.be32(1), Buffer.alloc(16), Buffer.of(channel)]);
const tls = Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);

const opening = Buffer.concat([
  stream.header,
  stream.configuration('pc-i440fx-7.2'),
  stream.command(1),
  stream.command(2, stream.be32(1)),
  stream.start(Buffer.concat([stream.blockList(RAM), stream.EOS])),
]);
const memory = stream.part(
  ...Array.from({ length: 128 }, (_, page) => {
    return stream.page(page * 4096, randomBytes(4096), page === 0 ? 'pc.ram' : undefined);
  }),
);

const test = suite('relay');

for (const wire of ['tcp', 'unix'] as const satisfies readonly Wire[]) {
  test(`${wire}: bytes pass through unchanged, both ways at once`, async () => {
    await withBed(wire, async (bed) => {
      const { source, target } = await bed.both();
      const there = Buffer.concat([stream.header, randomBytes(8 * MiB)]);
      const back = randomBytes(8 * MiB);
      source.end(there);
      target.end(back);
      const [arrived, returned] = await Promise.all([takeAll(target), takeAll(source)]);
      assert.ok(arrived.equals(there));
      assert.ok(returned.equals(back));
      const { streamBytes, returnBytes, outcome } = await bed.report();
      assert.equal([streamBytes, returnBytes], [there.length, back.length]);
      assert.is(outcome, 'closed', 'the destination has not confirmed a load');
    });
  });

  test(`${wire}: a side that ends its half can still read`, async () => {
    await withBed(wire, async (bed) => {
      const { source, target } = await bed.both();
      source.end('QEVM and nothing');
      assert.is(String(await takeAll(target)), 'QEVM and nothing');
      target.write('still there?');
      assert.is(String(await take(source, 12)), 'still there?');
      target.end('bye');
      assert.is(String(await takeAll(source)), 'bye');
    });
  });

  test(`${wire}: a side that does not read blocks the other’s writes`, async () => {
    await withBed(wire, async (bed) => {
      const { source, target } = await bed.both();
      const chunk = Buffer.alloc(MiB, 1);
      let sent = 0;
      let blocked = false;
      while (!blocked) {
        const written = new Promise((resolve) => source.write(chunk, resolve));
        blocked = (await Promise.race([written, delay(300, 'blocked')])) === 'blocked';
        if (!blocked) sent += chunk.length;
        assert.ok(sent < 64 * MiB, 'nothing ever stopped the source');
      }
      target.resume();
      let taken = 0;
      target.on('data', ({ length }: Buffer) => {
        taken += length;
      });
      while (taken < sent + chunk.length) await once(target, 'data');
    });
  });
}

test('a reset of either side is a reset for the other', async () => {
  await withBed('tcp', async (bed) => {
    for (const [at, side] of (['source', 'target'] as const).entries()) {
      const { source, target } = await bed.both();
      source.write(opening);
      await take(target, opening.length);
      const other = side === 'source' ? target : source;
      const seen = ending(other);
      (side === 'source' ? source : target).resetAndDestroy();
      assert.is(await seen, 'ECONNRESET');
      const { outcome, failure } = await bed.report(at);
      assert.is(outcome, 'failed');
      assert.is(failure?.code, side === 'source' ? 'E_RELAY_SOURCE_LOST' : 'E_RELAY_TARGET_LOST');
      assert.ok(failure?.hint);
    }
  });
});

test('a destination that does not listen resets the source, and is named', async () => {
  await withBed('tcp', async (bed) => {
    bed.stopListening();
    const source = await bed.source();
    assert.is(await ending(source), 'ECONNRESET');
    assert.is((await bed.report()).failure?.code, 'E_RELAY_TARGET');
  });
});

test('the destination’s answer decides the outcome', async () => {
  await withBed('tcp', async (bed) => {
    const verdicts = [
      [Buffer.concat([pong(1), shut(0)]), 'completed', undefined],
      [Buffer.concat([pong(1), shut(1)]), 'failed', 'E_RELAY_REFUSED'],
      [pong(1), 'failed', 'E_RELAY_CANCELLED'],
    ] as const;
    for (const [at, [said, outcome, code]] of verdicts.entries()) {
      const { source, target } = await bed.both();
      source.write(opening);
      await take(target, opening.length);
      target.end(said);
      await takeAll(source);
      source.end();
      await takeAll(target);
      const report = await bed.report(at);
      assert.equal([report.outcome, report.failure?.code], [outcome, code]);
      assert.is(report.ramBytes, MiB);
      assert.is(report.machineType, 'pc-i440fx-7.2');
    }
  });
});

test('connections of a parallel migration are opened in order, as one migration', async () => {
  await withBed('tcp', async (bed) => {
    const marks = [opening, multifd(0), multifd(1)];
    const sources = [await bed.source(), await bed.source(), await bed.source()];
    // The last speaks first: the order of connections is what counts.
    for (const at of [2, 1, 0]) sources[at]?.write(marks[at] ?? '');
    for (const mark of marks) {
      const target = await bed.target();
      assert.ok((await take(target, mark.length)).equals(mark));
      if (mark === opening) target.write(shut(0));
      target.end();
      target.resume();
    }
    for (const source of sources) source.end().resume();
    const { transport, outcome, channels } = await bed.report();
    assert.equal([transport, outcome], ['parallel', 'completed']);
    assert.equal(
      channels.map(({ kind }) => kind),
      ['main', 'multifd', 'multifd'],
    );
  });
});

test('when one connection ends, all of its migration end, and no others', async () => {
  await withBed('tcp', async (bed) => {
    const first = [await bed.both(), await bed.both(), await bed.both()];
    for (const [at, { source, target }] of first.entries()) {
      const mark = at === 0 ? opening : multifd(at);
      source.write(mark);
      await take(target, mark.length);
    }
    const other = await bed.both();
    other.source.write(opening);
    await take(other.target, opening.length);
    const ends = first.flatMap(({ source, target }) => [ending(source), ending(target)]);
    first[2]?.target.resetAndDestroy();
    await Promise.all(ends.slice(0, 4));
    const { channels, failure } = await bed.report();
    assert.is(channels.length, 3);
    assert.is(failure?.code, 'E_RELAY_TARGET_LOST');
    other.source.write('alive');
    assert.is(String(await take(other.target, 5)), 'alive');
  });
});

test('the number of connections is limited; one that ends makes room', async () => {
  const use = async (bed: RelayBed) => {
    const pairs = [await bed.both(), await bed.both(), await bed.both()];
    assert.match(await ending(await bed.source()), /^(end|ECONNRESET)$/);
    for (const { source, target } of pairs) {
      source.destroy();
      target.destroy();
    }
    const isRefused = async () => {
      const source = await bed.source();
      return Promise.race([ending(source).then(() => true), delay(200, false)]);
    };
    while (await isRefused()) await delay(10);
  };
  await withBed('tcp', use, { connectionsMax: 3 });
});

test('an encrypted migration is passed through, and reported as such', async () => {
  await withBed('tcp', async (bed) => {
    const { source, target } = await bed.both();
    source.end(tls);
    assert.ok((await takeAll(target)).equals(tls));
    target.end();
    await takeAll(source);
    const { transport, outcome, ramBytes } = await bed.report();
    assert.equal([transport, outcome, ramBytes], ['encrypted', 'closed', undefined]);
  });
});

test('progress gives the share of memory that has passed through', async () => {
  await withBed('tcp', async (bed) => {
    const { source, target } = await bed.both();
    source.write(Buffer.concat([opening, memory]));
    await take(target, opening.length + memory.length);
    while (bed.progress.length === 0) await delay(50);
    const [progress] = bed.progress;
    assert.is(progress?.share, 0.5);
    assert.ok((progress?.etaMs ?? 0) > 0);
    assert.is(progress?.ramBytes, MiB);
  });
});

test('a stream that cannot be decoded is relayed all the same, with a note', async () => {
  await withBed('tcp', async (bed) => {
    const { source, target } = await bed.both();
    const bytes = Buffer.concat([stream.header, stream.configuration(), Buffer.alloc(MiB, 0xee)]);
    source.end(bytes);
    assert.ok((await takeAll(target)).equals(bytes));
    target.end();
    await takeAll(source);
    assert.match((await bed.report()).notes.join(), 'could not be followed');
  });
});

test('a side that reads nothing is given up', async () => {
  await withBed(
    'tcp',
    async (bed) => {
      const { source } = await bed.both();
      const seen = ending(source);
      source.write(Buffer.concat([opening, Buffer.alloc(64 * MiB)]));
      assert.is(await seen, 'ECONNRESET');
      assert.is((await bed.report()).failure?.code, 'E_RELAY_STALLED');
    },
    { stallLimitMs: 600 },
  );
});

test('a relay that drains releases migrations under way, and accepts no new ones', async () => {
  await withBed('tcp', async (bed) => {
    const { source, target } = await bed.both();
    source.write(opening);
    await take(target, opening.length);
    bed.relay.drain();
    await assertRefused(bed.source());
    target.end(shut(0));
    source.end();
    await Promise.all([takeAll(source), takeAll(target)]);
    await bed.relay.over;
    assert.is((await bed.report()).outcome, 'completed');
  });
});

async function assertRefused(connecting: Promise<unknown>): Promise<void> {
  const outcome = await connecting.then(
    () => 'connected',
    (error: NodeJS.ErrnoException) => error.code,
  );
  assert.is(outcome, 'ECONNREFUSED');
}

test.run();
