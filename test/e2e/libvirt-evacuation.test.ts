/**
 * A host is evacuated: four migrations of libvirt's at once through one relay, one after the other, with
 * a shadow of each as far as the budget goes.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setInterval as ticks } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LibvirtPair } from '../../tools/testbed/libvirt-pair.ts';
import { RelayProcess } from '../../tools/testbed/relay-process.ts';
import { firstGap, logEnd, readTicks, untilTicks } from '../../tools/testbed/ticks.ts';

const DOMAINS = ['e0', 'e1', 'e2', 'e3'];
const FIRST_PORT = 49_310;
const MiB = 2 ** 20;
/** Not enough for all four: a guest of 128 MiB leaves a shadow of about 90. */
const BUDGET_MIB = 300;
/** Of its own, buffers and what is put by. */
const RELAY_RSS_MIB_MAX = 400;

const test = suite('libvirt evacuation');
let pair: LibvirtPair;
let relay: RelayProcess | undefined;

test.before(async () => {
  pair = await LibvirtPair.create();
  for (const name of DOMAINS) {
    await pair.a.create(pair.xml({ name, memoryMiB: 128, loadMiB: 8 }));
  }
  for (const name of DOMAINS) {
    await untilTicks(pair.console(name), 0, ({ checks }) => checks.length > 0);
  }
});

test.after(async () => {
  await relay?.kill();
  pair?.dispose();
});

test('four at once: one by one, all arrive, and the budget is kept', async () => {
  const store = join(pair.memory, 'store');
  const address = (host: string, at: number) => `tcp://${host}:${FIRST_PORT + at}`;
  const routes = DOMAINS.flatMap((name, at) => [
    ...['--listen', address(pair.addressA, at), '--to', address(pair.addressB, at)],
    ...['--name', name],
  ]);
  const budget = ['--shadow', store, '--budget', `${BUDGET_MIB}MiB`];
  relay = await RelayProcess.start(...routes, '--at-once', '1', ...budget);
  const from = DOMAINS.map((name) => logEnd(pair.console(name)));
  const watched = watch(relay, store);
  const ends = await Promise.all(
    DOMAINS.map((name, at) => {
      const uri = ['--migrateuri', address(pair.addressA, at)];
      return pair.a.virsh(['migrate', '--live', name, pair.b.uri, ...uri], 120_000);
    }),
  );
  const { storeBytes, residentBytes } = await watched.end();
  assert.equal(
    ends.map(({ code, stderr }) => [code, stderr]),
    DOMAINS.map(() => [0, '']),
  );

  const reports = await relay.reports(DOMAINS.length);
  assert.ok(reports.every(({ outcome }) => outcome === 'completed'));
  const came = [...reports].sort((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt));
  assert.equal(
    reports.map(({ name }) => name),
    came.map(({ name }) => name),
    'they end in the order in which they came',
  );
  const flowed = came.map(({ flow }) => flow.filter(({ state }) => state === 'live'));
  for (const [at, spans] of flowed.entries()) {
    const before = flowed[at - 1]?.at(-1)?.toMs ?? 0;
    assert.ok((spans[0]?.fromMs ?? 0) >= before - 200, `${came[at]?.name} did not wait its turn`);
  }

  const kept = came.filter(({ shadow }) => shadow?.kept);
  const told = JSON.stringify(came.map(({ shadow }) => shadow));
  assert.ok(kept.length >= 2, `there is room for two: ${told}`);
  assert.ok(kept.length < DOMAINS.length, `there is no room for all: ${told}`);
  for (const { shadow, notes } of came) {
    if (shadow?.kept) continue;
    assert.match(notes.join(), /E_BUDGET|E_STORE_NO_ROOM/);
  }
  assert.ok(storeBytes <= BUDGET_MIB * MiB, `${storeBytes} bytes were in the store`);
  assert.ok(residentBytes <= RELAY_RSS_MIB_MAX * MiB, `the relay took ${residentBytes} bytes`);

  for (const [at, name] of DOMAINS.entries()) {
    assert.is(await pair.b.ask('domstate', name), 'running');
    const log = pair.console(name);
    const already = readTicks(log, from[at]).numbers.length;
    const now = await untilTicks(log, from[at] ?? 0, ({ numbers }) => numbers.length > already + 3);
    assert.is(now.names.length, 1);
    assert.is(firstGap(now), undefined);
    assert.not.match(now.checks.join(), 'CORRUPT');
  }
});

interface Peak {
  readonly storeBytes: number;
  readonly residentBytes: number;
}

/** The most the store has held and the relay has had, by the kernel's accounts. */
function watch(process: RelayProcess, store: string): { end(): Promise<Peak> } {
  const over = new AbortController();
  let storeBytes = 0;
  const watching = (async () => {
    for await (const _ of ticks(100, undefined, { signal: over.signal })) {
      const kibibytes = execFileSync('du', ['-sk', store], { encoding: 'utf8' });
      storeBytes = Math.max(storeBytes, Number.parseInt(kibibytes, 10) * 1024);
    }
  })().catch((error: Error) => {
    if (error.name !== 'AbortError') throw error;
  });
  return {
    async end() {
      over.abort();
      await watching;
      return { storeBytes, residentBytes: process.peakBytes };
    },
  };
}

test.run();
