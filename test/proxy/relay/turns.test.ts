/** Migrations that wait for each other, and shadows of them, on real sockets and a real store. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EvacuationPolicy } from '../../../policies/index.ts';
import { RelayStore, relayCatalogue, shadowsOf } from '../../../proxy/relay/relay-store.ts';
import { shut } from '../../../proxy/stream/return-path.ts';
import { openShadow, SealedRam, type ShadowError, verifyShadow } from '../../../shadow/index.ts';
import { lookAtTree } from '../../support/closed-tree.ts';
import { scratchFolder } from '../../support/scratch.ts';
import * as stream from '../stream/builder.ts';
import { type RelayBed, take, takeAll, withBed } from './relay-bed.ts';

const PAGE = 4096;
const MiB = 2 ** 20;
const PAGES = 2048;
const ONE: EvacuationPolicy = { order: 'in-order', atOnce: 1, slotMs: 1000 };

const content = Array.from({ length: PAGES }, (_, at) => {
  return at % 4 === 3 ? undefined : randomBytes(PAGE);
});
const opening = Buffer.concat([
  stream.header,
  stream.configuration('pc-i440fx-7.2'),
  stream.command(1),
  stream.start(Buffer.concat([stream.blockList([{ name: 'pc.ram', pages: PAGES }]), stream.EOS])),
]);
const firstHalf = pagesFrom(0, PAGES / 2);
const secondHalf = pagesFrom(PAGES / 2, PAGES);
const ending = Buffer.concat([stream.end(), stream.DEVICES, stream.vmdesc(stream.DEVICES_JSON)]);
const whole = Buffer.concat([opening, firstHalf, secondHalf, ending]);

function pagesFrom(from: number, to: number): Buffer {
  const items = content.slice(from, to).map((bytes, at) => {
    const block = at === 0 ? 'pc.ram' : undefined;
    const offset = (from + at) * PAGE;
    return bytes === undefined ? stream.zero(offset, block) : stream.page(offset, bytes, block);
  });
  return stream.part(...items);
}

/** Plays the destination: reads all, confirms it, and closes the connection. */
async function accept(target: Socket): Promise<void> {
  await take(target, whole.length);
  target.end(shut(0));
  await takeAll(target);
}

/** Plays the source: sends the stream and waits for the end of the answer. */
async function send(source: Socket, bytes = whole): Promise<void> {
  source.write(bytes);
  await takeAll(source);
  source.end();
}

async function migrate(bed: RelayBed): Promise<void> {
  const { source, target } = await bed.both();
  await Promise.all([send(source), accept(target)]);
}

interface Store {
  readonly directory: string;
  readonly store: RelayStore;
}

async function withStore(
  options: { readonly budgetBytes?: number; readonly keep?: number },
  use: (store: Store) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(scratchFolder(), 'umbra-keep-'));
  try {
    const { budgetBytes, keep = 2 } = options;
    const rest = { headroomBytes: 0, inFlightBytes: 16 * MiB };
    const store = await RelayStore.open({ directory, budgetBytes, keep, ...rest });
    await use({ directory, store });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const test = suite('relay turns');

test('shadows are their owner’s only, and not kept where others may write', async () => {
  await withStore({}, async ({ directory, store }) => {
    await withBed(
      'tcp',
      async (bed) => {
        await migrate(bed);
        assert.ok((await bed.report()).shadow?.kept);
      },
      { store },
    );
    const { files, open } = lookAtTree(directory);
    assert.ok(files > 4);
    assert.equal(open, []);
    chmodSync(directory, 0o777);
    const options = { directory, budgetBytes: undefined, headroomBytes: 0, keep: 1 };
    const error = await RelayStore.open({ ...options, inFlightBytes: MiB }).catch(
      (cause: unknown) => cause,
    );
    assert.is((error as ShadowError).code, 'E_FOLDER_UNSAFE');
  });
});

test('with one at a time, the second trickles until the first is over', async () => {
  const options = { evacuation: ONE };
  await withBed(
    'tcp',
    async (bed) => {
      const [first, second] = [await bed.both(), await bed.both()];
      first.source.write(Buffer.concat([opening, firstHalf]));
      second.source.write(Buffer.concat([opening, firstHalf, secondHalf]));
      await take(first.target, opening.length + firstHalf.length);
      await delay(200);
      assert.ok(second.target.readableLength < 2 * MiB, 'it does not wait');
      const arriving = accept(second.target);
      first.source.write(Buffer.concat([secondHalf, ending]));
      await take(first.target, secondHalf.length + ending.length);
      first.target.end(shut(0));
      first.source.end();
      await Promise.all([takeAll(first.source), takeAll(first.target)]);
      await Promise.all([arriving, send(second.source, ending)]);
      const [one, two] = [await bed.report(0), await bed.report(1)];
      assert.equal([one.outcome, two.outcome], ['completed', 'completed']);
      assert.ok(one.heldMs < two.heldMs);
      assert.ok(two.heldMs >= 200);
      assert.ok(two.flow.some(({ state }) => state === 'held'));
    },
    options,
  );
});

test('a VM that may be stopped is never held: RAM END releases it', async () => {
  await withBed(
    'tcp',
    async (bed) => {
      const first = await bed.both();
      first.source.write(Buffer.concat([opening, firstHalf]));
      await take(first.target, opening.length + firstHalf.length);
      const second = await bed.both();
      // All of it fits the sockets: QEMU would stand behind it, and wait for the verdict.
      const little = Buffer.concat([opening, stream.end(), stream.DEVICES, Buffer.alloc(8 * MiB)]);
      second.source.write(little);
      const sentAt = performance.now();
      await take(second.target, little.length);
      assert.ok(performance.now() - sentAt < 1000, 'it was kept waiting');
    },
    { evacuation: ONE },
  );
});

test('a held source that stays silent is released: it is not waiting for the relay', async () => {
  await withBed(
    'tcp',
    async (bed) => {
      const first = await bed.both();
      first.source.write(Buffer.concat([opening, firstHalf]));
      await take(first.target, opening.length + firstHalf.length);
      const second = await bed.both();
      second.source.write(Buffer.concat([Buffer.from([0x16, 0x03, 3, 0]), Buffer.alloc(MiB)]));
      await take(second.target, MiB);
      while (bed.progress[1]?.state !== 'released') await delay(50);
    },
    { evacuation: ONE },
  );
});

test('a completed migration leaves an epoch that holds its memory, byte for byte', async () => {
  await withStore({}, async ({ directory, store }) => {
    await withBed(
      'tcp',
      async (bed) => {
        await migrate(bed);
        const { shadow, notes } = await bed.report();
        assert.equal(notes, []);
        assert.ok(shadow?.kept);
        await requireContent(directory, shadow.epoch);
      },
      { store },
    );
  });
});

async function requireContent(directory: string, epoch: number): Promise<void> {
  const { round, members } = await relayCatalogue(directory).read(epoch);
  const [member] = members;
  const path = join(shadowsOf(directory), round, member?.name ?? '');
  const sealed = await openShadow(path, member?.shadow);
  await verifyShadow(sealed, 'all');
  assert.is(sealed.manifest.identity.machineType, 'pc-i440fx-7.2');
  const ram = await SealedRam.open(sealed);
  const page = Buffer.alloc(PAGE);
  for (const [at, bytes] of content.entries()) {
    assert.is(ram.read(0, at * PAGE, page, 0), bytes !== undefined, `page ${at}`);
    if (bytes !== undefined) assert.ok(page.equals(bytes), `page ${at}`);
  }
  ram.close();
}

test('the shadow of a migration that waited, its beginning set aside, is whole, too', async () => {
  await withStore({}, async ({ store }) => {
    await withBed(
      'tcp',
      async (bed) => {
        const first = await bed.both();
        first.source.write(Buffer.concat([opening, firstHalf]));
        await take(first.target, opening.length + firstHalf.length);
        const second = migrate(bed);
        while (bed.progress[1]?.state !== 'held') await delay(10);
        await delay(150);
        first.source.resetAndDestroy();
        await second;
        const failed = await bed.report(0);
        assert.equal([failed.outcome, failed.shadow?.kept], ['failed', false]);
        const { shadow, heldMs } = await bed.report(1);
        assert.ok(shadow?.kept);
        assert.ok(heldMs > 100);
      },
      { store, evacuation: ONE },
    );
  });
});

test('no epoch if a migration failed, was encrypted or parallel, or lacks a page', async () => {
  const cases: readonly [string, Buffer, Buffer | undefined][] = [
    ['refused', whole, shut(1)],
    ['cut short', whole.subarray(0, whole.length - 9), shut(0)],
    ['encrypted', Buffer.concat([Buffer.from([0x16, 3, 3, 0]), whole]), undefined],
    ['a page is missing', Buffer.concat([opening, firstHalf, ending]), shut(0)],
    ['another machine’s', Buffer.concat([opening, Buffer.alloc(4096, 0xee)]), shut(0)],
    ['ended early', Buffer.concat([opening, firstHalf]), undefined],
  ];
  await withStore({}, async ({ directory, store }) => {
    await withBed(
      'tcp',
      async (bed) => {
        for (const [at, [name, bytes, said]] of cases.entries()) {
          const { source, target } = await bed.both();
          source.write(bytes);
          await take(target, bytes.length);
          if (said !== undefined) target.write(said);
          target.end();
          await takeAll(source);
          source.end();
          await takeAll(target);
          const { shadow, notes } = await bed.report(at);
          assert.is(shadow?.kept, false, name);
          assert.match(notes.join(), 'no shadow was kept', name);
        }
        assert.equal(readdirSync(shadowsOf(directory)), []);
        assert.equal((await relayCatalogue(directory).list()).epochs, []);
      },
      { store },
    );
  });
});

test('a migration over the budget passes without a shadow; older epochs make room', async () => {
  const room = 40 * MiB;
  await withStore({ budgetBytes: room, keep: 1 }, async ({ directory, store }) => {
    await withBed(
      'tcp',
      async (bed) => {
        for (let at = 0; at < 3; at++) {
          await migrate(bed);
          assert.ok((await bed.report(at)).shadow?.kept);
        }
        const { epochs } = await relayCatalogue(directory).list();
        assert.equal(
          epochs.map(({ epoch }) => epoch),
          [3],
        );
        const rounds = readdirSync(shadowsOf(directory)).filter((name) => name !== 'spare');
        assert.is(rounds.length, 1);
        await requireContent(directory, 3); // written over what the first has left
      },
      { store },
    );
  });
  await withStore({ budgetBytes: 20 * MiB }, async ({ store }) => {
    await withBed(
      'tcp',
      async (bed) => {
        await migrate(bed);
        const { shadow, outcome } = await bed.report();
        assert.equal([outcome, shadow?.kept], ['completed', false]);
        if (shadow?.kept === false) assert.match(shadow.failure.code, /E_STORE_NO_ROOM|E_BUDGET/);
      },
      { store },
    );
  });
});

test('turns that are changed hold for migrations under way, too', async () => {
  await withBed(
    'tcp',
    async (bed) => {
      const [first, second] = [await bed.both(), await bed.both()];
      first.source.write(Buffer.concat([opening, firstHalf]));
      const sent = send(second.source);
      await take(first.target, opening.length + firstHalf.length);
      bed.relay.reconfigure({ stallLimitMs: 30_000, evacuation: { ...ONE, atOnce: 2 } });
      await Promise.all([sent, accept(second.target)]);
      const third = await bed.both();
      bed.relay.reconfigure({ stallLimitMs: 30_000, evacuation: ONE });
      const last = send(third.source);
      await delay(200);
      assert.ok(third.target.readableLength < 2 * MiB, 'it does not wait');
      bed.relay.reconfigure({ stallLimitMs: 30_000, evacuation: undefined });
      await Promise.all([last, accept(third.target)]);
    },
    { evacuation: ONE },
  );
});

test('a budget , or what is kept, that is changed: from the next shadow on', async () => {
  await withStore({}, async ({ directory, store }) => {
    await withBed(
      'tcp',
      async (bed) => {
        const rest = { directory, headroomBytes: 0, inFlightBytes: MiB };
        store.reconfigure({ ...rest, budgetBytes: 2 * MiB, keep: 2 });
        await migrate(bed);
        assert.is((await bed.report(0)).shadow?.kept, false);
        store.reconfigure({ ...rest, budgetBytes: undefined, keep: 1 });
        for (const index of [1, 2]) {
          await migrate(bed);
          assert.is((await bed.report(index)).shadow?.kept, true);
        }
        const { epochs } = await relayCatalogue(directory).list();
        assert.is(epochs.length, 1);
      },
      { store },
    );
  });
});

test('a store is used by one relay at a time', async () => {
  await withStore({}, async ({ directory, store }) => {
    const again = RelayStore.open({
      directory,
      budgetBytes: undefined,
      headroomBytes: 0,
      keep: 1,
      inFlightBytes: MiB,
    });
    const code = await again.then(
      () => 'opened',
      (error: { code: string }) => error.code,
    );
    assert.is(code, 'E_DAEMON_RUNS');
    store.close();
  });
});

test.run();
