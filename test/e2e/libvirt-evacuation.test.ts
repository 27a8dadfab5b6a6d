/**
 * A host is evacuated: four libvirt migrations at once through one relay, which keeps a shadow of
 * each as far as the budget allows. They go one after the other, then back in turns, then once more
 * so that they finish together.
 */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setInterval as ticks } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { MigrationReport } from '../../proxy/relay/report.ts';
import { occupiedBytes } from '../../shadow/index.ts';
import type { LibvirtHost } from '../../tools/testbed/libvirt-host.ts';
import { LibvirtPair } from '../../tools/testbed/libvirt-pair.ts';
import { RelayProcess } from '../../tools/testbed/relay-process.ts';
import { firstGap, logEnd, readTicks, untilTicks } from '../../tools/testbed/ticks.ts';
import { suite } from '../support/suite.ts';

const DOMAINS = ['e0', 'e1', 'e2', 'e3'];
/** Domains; the last has the most to send, the first the least. */
const MEMORY_MIB = [112, 128, 128, 192];
const LOAD_MIB = [8, 8, 8, 80];
/** Bandwidth of each migration, MiB/s: slow enough for several turns, however they start. */
const SLOW = ['--bandwidth', '20'];
const SLOT_MS = 300;
const FIRST_PORT = 49_310;
const MiB = 2 ** 20;
/**
 * Budget too small for all four: a 128 MiB guest leaves a shadow of about 90 MiB, the large one
 * 170.
 */
const BUDGET_MIB = 300;
/** Greatest resident memory of the relay: its own, buffers and streams it has set aside. */
const RELAY_RSS_MIB_MAX = 400;

const test = suite('libvirt evacuation');
let pair: LibvirtPair;
let relay: RelayProcess | undefined;

test.before(async () => {
  pair = await LibvirtPair.create();
  for (const [at, name] of DOMAINS.entries()) {
    const sizes = { memoryMiB: MEMORY_MIB[at] ?? 128, loadMiB: LOAD_MIB[at] ?? 8 };
    await pair.a.create(pair.xml({ name, ...sizes }));
  }
  for (const name of DOMAINS) {
    await untilTicks(pair.console(name), 0, ({ checks }) => checks.length > 0);
  }
});

test.after(async () => {
  await relay?.kill();
  pair?.dispose();
});

test.after.each(async () => {
  await relay?.kill();
});

interface Way {
  readonly source: LibvirtHost;
  readonly target: LibvirtHost;
  /** Address on which the destination's QEMUs listen and to which the relay connects. */
  readonly address: string;
  readonly firstPort: number;
}

interface Evacuated extends Peak {
  /** Reports in the order in which the migrations ended. */
  readonly reports: readonly MigrationReport[];
}

const there = (): Way => {
  return { source: pair.a, target: pair.b, address: pair.addressB, firstPort: FIRST_PORT };
};
/** Returns the way back. The relay stays on host a, and QEMU listens there on another address. */
const back = (): Way => {
  return { source: pair.b, target: pair.a, address: '127.0.0.1', firstPort: FIRST_PORT + 10 };
};

/** Migrates all at once through a relay; checks that no guest misses a tick or memory. */
async function evacuate(
  { source, target, address, firstPort }: Way,
  options: readonly string[],
  more: readonly string[] = [],
): Promise<Evacuated> {
  const store = mkdtempSync(join(pair.memory, 'store-'));
  const routes = DOMAINS.flatMap((name, at) => [
    '--listen',
    `tcp://${pair.addressA}:${firstPort + at}`,
    '--to',
    `tcp://${address}:${firstPort + at}`,
    '--name',
    name,
  ]);
  const budget = ['--shadow', store, '--budget', `${BUDGET_MIB}MiB`];
  relay = await RelayProcess.start(...routes, '--at-once', '1', ...budget, ...options);
  const from = DOMAINS.map((name) => logEnd(pair.console(name)));
  const watched = watch(relay, store);
  const ends = await Promise.all(
    DOMAINS.map((name, at) => {
      const uri = ['--migrateuri', `tcp://${pair.addressA}:${firstPort + at}`];
      const listen = ['--listen-address', address];
      const words = ['migrate', '--live', name, target.uri, ...uri, ...listen, ...more];
      return source.virsh(words);
    }),
  );
  const { storeBytes, residentBytes } = await watched.end();
  assert.equal(
    ends.map(({ code, stderr }) => [code, stderr]),
    DOMAINS.map(() => [0, '']),
  );
  const reports = await relay.reports(DOMAINS.length);
  assert.ok(reports.every(({ outcome }) => outcome === 'completed'));
  assert.ok(storeBytes <= BUDGET_MIB * MiB, `${storeBytes} bytes were in the store`);
  assert.ok(residentBytes <= RELAY_RSS_MIB_MAX * MiB, `the relay took ${residentBytes} bytes`);
  for (const [at, name] of DOMAINS.entries()) {
    assert.is(await target.ask('domstate', name), 'running');
    const log = pair.console(name);
    const already = readTicks(log, from[at]).numbers.length;
    const now = await untilTicks(log, from[at] ?? 0, ({ numbers }) => numbers.length > already + 3);
    assert.is(now.names.length, 1);
    assert.is(firstGap(now), undefined);
    assert.not.match(now.checks.join(), 'CORRUPT');
  }
  return { reports, storeBytes, residentBytes };
}

/** Returns the intervals in which a migration flowed. */
const live = ({ flow }: MigrationReport) => flow.filter(({ state }) => state === 'live');

test('in order: they flow one by one, all arrive, and the budget is kept', async () => {
  const { reports } = await evacuate(there(), []);
  const came = [...reports].sort((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt));
  assert.equal(
    reports.map(({ name }) => name),
    came.map(({ name }) => name),
    'they end in the order in which they came',
  );
  const flowed = came.map(live);
  for (const [at, spans] of flowed.entries()) {
    const before = flowed[at - 1]?.at(-1)?.toMs ?? 0;
    assert.ok((spans[0]?.fromMs ?? 0) >= before - 200, `${came[at]?.name} did not wait its turn`);
  }

  const kept = came.filter(({ shadow }) => shadow?.kept);
  const told = JSON.stringify(came.map(({ shadow }) => shadow));
  assert.ok(kept.length >= 1, `there is room for one: ${told}`);
  assert.ok(kept.length < DOMAINS.length, `there is no room for all: ${told}`);
  for (const { shadow, notes } of came) {
    if (shadow?.kept) continue;
    assert.match(notes.join(), /E_BUDGET|E_STORE_NO_ROOM/);
  }
});

/** Returns for how long several flowed at once, milliseconds. */
function overlapMs(reports: readonly MigrationReport[]): number {
  const spans = reports.flatMap(live).sort((a, b) => a.fromMs - b.fromMs);
  let until = 0;
  let overlap = 0;
  for (const { fromMs, toMs } of spans) {
    overlap += Math.max(0, Math.min(until, toMs) - fromMs);
    until = Math.max(until, toMs);
  }
  return overlap;
}

const startOf = (report: MigrationReport) => live(report)[0]?.fromMs ?? 0;
const endOf = (report: MigrationReport) => live(report).at(-1)?.toMs ?? 0;
const flowedMs = (report: MigrationReport) =>
  live(report).reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);

/** Returns the time from the first one's start to the last one's end, milliseconds. */
const wholeMs = (reports: readonly MigrationReport[]) =>
  Math.max(...reports.map(endOf)) - Math.min(...reports.map(startOf));

test('round-robin: they take turns, one flowing at a time', async () => {
  const options = ['--order', 'round-robin', '--slot', `${SLOT_MS}ms`];
  const { reports } = await evacuate(back(), options, SLOW);
  for (const report of reports) {
    const others = reports.filter((one) => one !== report).flatMap(live);
    const between = others.filter(({ fromMs }) => {
      return fromMs > startOf(report) && fromMs < endOf(report);
    });
    assert.ok(live(report).length > 1 && between.length > 0, `${report.name} went in one go`);
  }
  assert.ok(overlapMs(reports) < wholeMs(reports) / 10, `${overlapMs(reports)} ms at once`);
});

test('finish-together: the largest flows most, all end together, the smallest last', async () => {
  const options = ['--order', 'finish-together', '--slot', `${SLOT_MS}ms`];
  const { reports } = await evacuate(there(), options, SLOW);
  const least = reports.find(({ name }) => name === DOMAINS[0]);
  const most = reports.find(({ name }) => name === DOMAINS.at(-1));
  const others = reports.filter((report) => report !== least);
  assert.is(reports.at(-1), least, 'the migration with the least to send comes last');
  for (const report of others) {
    assert.ok(report === most || flowedMs(report) < flowedMs(most ?? report), report.name);
  }
  const ends = others.map(endOf);
  const apartMs = Math.max(...ends) - Math.min(...ends);
  assert.ok(apartMs < wholeMs(others) / 4, `they end ${apartMs} ms apart`);
  assert.ok(overlapMs(reports) < wholeMs(reports) / 10, `${overlapMs(reports)} ms at once`);
});

interface Peak {
  readonly storeBytes: number;
  readonly residentBytes: number;
}

/** Measures the peak memory of the store and of the relay, by the kernel's accounts. */
function watch(process: RelayProcess, store: string): { end(): Promise<Peak> } {
  const over = new AbortController();
  let storeBytes = 0;
  const watching = (async () => {
    for await (const _ of ticks(100, undefined, { signal: over.signal })) {
      storeBytes = Math.max(storeBytes, await occupiedBytes(store));
    }
  })().catch((error: Error) => error);
  return {
    async end() {
      over.abort();
      const { name, message } = (await watching) ?? {};
      assert.is(name, 'AbortError', message);
      assert.ok(storeBytes > 0, 'the watch saw nothing');
      return { storeBytes, residentBytes: process.peakBytes };
    },
  };
}

test.run();
