/**
 * Measures tracked captures beside precopy of the same VM, in the same run:
 *
 *     epoch_vs_precopy_time   a later epoch of a 4 GiB VM, 3.3 GiB of it in use, that writes 20 MiB
 *                             a second: time of a tracked round ÷ of a precopy one, whose dirty log
 *                             is trusted (compareEmulated: false)
 *     epoch_vs_precopy_cpu    the same of processor seconds: Umbra's, and QEMU's without its vCPUs
 *     idle_epoch_ms_4g        a tracked round of that VM when its guest rests
 *     downtime_ms_median      from STOP to RESUME of four VMs (idle, busy, with a large working
 *                             set, bursty), of all rounds and VMs
 *     downtime_vs_precopy     the same ÷ that of precopy
 *     kept_bytes_over_written sixty epochs, one a second, all kept: memory of the 59 later ones
 *                             ÷ what the guest has written meanwhile, by the guest's own count
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import { occupiedBytes } from '../../shadow/index.ts';
import { endMemory, verifyMemory } from '../testbed/dirty.ts';
import type { Testbed } from '../testbed/testbed.ts';
import type { BenchOptions, Measurement, Row } from './bench.ts';
import { umbraSeconds, vcpuThreads } from './process-cpu.ts';
import { spread } from './statistics.ts';
import { withBed } from './with-bed.ts';

const RUNS = 10;
const LARGE_MIB = 4096;
const FILL_MIB = 3300;
const RATE_MIB = 20;
const PERIOD_MS = 1_000;
const KEPT = 60;
const KEPT_MIB = 2048;
/** Less than is written in a period, so that no page is written twice in one. */
const KEPT_SET_MIB = 64;
const MIB = 2 ** 20;
const TRACKED = { capture: ['tracked', 'precopy', 'stop-copy'], compareEmulated: false };
const PRECOPY = { capture: ['precopy', 'stop-copy'], compareEmulated: false };
const STORE = { headroom: '64MiB' };

type Progress = (line: string) => void;

export async function benchTracked(
  progress: Progress,
  { runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const large = await measureLarge(progress, runs);
  const four = await measureFour(progress, runs);
  const kept = await measureKept(progress);
  const row = (what: string, unit: string, values: readonly number[]): Row => {
    return { what, unit, spread: spread(values) };
  };
  const median = (values: readonly number[]) => spread(values).median;
  const tracked = large.tracked.map(({ ms }) => ms);
  const precopy = large.precopy.map(({ ms }) => ms);
  const trackedCpu = large.tracked.map(({ cpuMs }) => cpuMs);
  const precopyCpu = large.precopy.map(({ cpuMs }) => cpuMs);
  return {
    figures: {
      epoch_vs_precopy_time: median(tracked) / median(precopy),
      epoch_vs_precopy_cpu: median(trackedCpu) / median(precopyCpu),
      idle_epoch_ms_4g: median(large.idle.map(({ ms }) => ms)),
      downtime_ms_median: median(four.tracked),
      downtime_vs_precopy: median(four.tracked) / median(four.precopy),
      kept_bytes_over_written: kept.bytes / kept.writtenBytes,
    },
    rows: [
      row('tracked epoch, 4 GiB, 20 MiB/s', 'ms', tracked),
      row('precopy epoch of the same VM', 'ms', precopy),
      row('tracked epoch, processor', 'ms', trackedCpu),
      row('precopy epoch, processor', 'ms', precopyCpu),
      row(
        'tracked epoch, stored',
        'MiB',
        large.tracked.map(({ storedMiB }) => storedMiB),
      ),
      row(
        'tracked epoch, idle VM',
        'ms',
        large.idle.map(({ ms }) => ms),
      ),
      row(
        'tracked epoch, idle VM, processor',
        'ms',
        large.idle.map(({ cpuMs }) => cpuMs),
      ),
      row('downtime of a VM, tracked', 'ms', four.tracked),
      row('downtime of a VM, precopy', 'ms', four.precopy),
      row('kept: memory of 59 epochs', 'MiB', [kept.bytes / MIB]),
      row('kept: written meanwhile', 'MiB', [kept.writtenBytes / MIB]),
    ],
  };
}

interface Epoch {
  readonly ms: number;
  readonly cpuMs: number;
  readonly storedMiB: number;
}

async function measureLarge(progress: Progress, runs: number) {
  progress(`a VM of ${LARGE_MIB} MiB, ${FILL_MIB} MiB of it in use, ${RATE_MIB} MiB/s`);
  const settings = { store: STORE, round: PRECOPY, epochs: { keep: 1 } };
  return withBed({ nodes: 1, memoryMiB: LARGE_MIB, settings, watch: true }, async (bed) => {
    await bed.dirty(0, { sizeMiB: FILL_MIB, rateMiB: RATE_MIB, pattern: 'random' });
    const monitor = await QmpClient.connect(join(bed.memberDirectory(0), 'watch.sock'));
    const vcpus = await vcpuThreads(monitor);
    const take = (count: number) => epochs(bed, vcpus, count, 'tracked');
    const precopy = await epochs(bed, vcpus, runs, 'precopy');
    await bed.reconfigure({ ...settings, round: TRACKED });
    const tracked = await take(runs);
    await bed.shell(0, endMemory());
    const idle = await take(runs);
    monitor.close();
    return { precopy, tracked, idle };
  });
}

/** Takes later epochs, one a period. The first two warm up; the first may be a base. */
async function epochs(
  bed: Testbed,
  vcpus: ReadonlySet<number>,
  count: number,
  capture: string,
): Promise<Epoch[]> {
  const taken: Epoch[] = [];
  for (let run = -2; run < count; run++) {
    await delay(PERIOD_MS);
    const before = umbraSeconds(bed, bed.pid(0) ?? 0, vcpus);
    const { durationMs, members, storedBytes } = await bed.json<RoundReport>('checkpoint');
    const cpuMs = (umbraSeconds(bed, bed.pid(0) ?? 0, vcpus) - before) * 1000;
    if (run < 0) continue;
    const taking = members[0]?.capture;
    if (taking !== capture) throw new Error(`the epoch was captured by ${taking}`);
    taken.push({ ms: durationMs, cpuMs, storedMiB: storedBytes / MIB });
  }
  return taken;
}

async function measureFour(progress: Progress, runs: number) {
  progress('downtime of four VMs: idle, busy, with a large working set, bursty');
  const settings = { store: STORE, round: PRECOPY, epochs: { keep: 1 } };
  return withBed({ nodes: 4, memoryMiB: 512, settings }, async (bed) => {
    await bed.dirty(1, { sizeMiB: 64, rateMiB: 40, pattern: 'random' });
    await bed.dirty(2, { sizeMiB: 320, rateMiB: 20, pattern: 'sequential' });
    await bed.dirty(3, { sizeMiB: 64, rateMiB: 20, pattern: 'burst' });
    const precopy = await downtimes(bed, runs);
    await bed.reconfigure({ ...settings, round: TRACKED });
    return { precopy, tracked: await downtimes(bed, runs) };
  });
}

async function downtimes(bed: Testbed, runs: number): Promise<number[]> {
  const all: number[] = [];
  for (let run = -2; run < runs; run++) {
    await delay(PERIOD_MS);
    const { members } = await bed.json<RoundReport>('checkpoint');
    if (run < 0) continue;
    for (const { stoppedAtUs = Number.NaN, resumedAtUs = Number.NaN } of members) {
      all.push((resumedAtUs - stoppedAtUs) / 1000);
    }
  }
  return all;
}

async function measureKept(progress: Progress) {
  progress(`${KEPT} epochs of a VM of ${KEPT_MIB} MiB, one a second, all kept`);
  const settings = { store: STORE, round: TRACKED, epochs: { keep: KEPT } };
  return withBed({ nodes: 1, memoryMiB: KEPT_MIB, settings }, async (bed) => {
    await bed.dirty(0, { sizeMiB: KEPT_SET_MIB, rateMiB: RATE_MIB });
    let [first, startedAt] = [await generation(bed), 0];
    const shadows = join(bed.directory, 'shadows');
    const rounds: string[] = [];
    for (let epoch = 0; epoch < KEPT; epoch++) {
      const due = startedAt + epoch * PERIOD_MS;
      if (epoch > 0) await delay(Math.max(0, due - performance.now()));
      const { round } = await bed.json<RoundReport>('checkpoint');
      rounds.push(round);
      if (epoch > 0) continue;
      first = await generation(bed);
      startedAt = performance.now();
    }
    const last = await generation(bed);
    const later = rounds.slice(1).filter((round) => readdirSync(shadows).includes(round));
    const bytes = await Promise.all(later.map((round) => occupiedBytes(join(shadows, round))));
    return {
      bytes: bytes.reduce((sum, one) => sum + one, 0),
      writtenBytes: (last - first) * KEPT_SET_MIB * MIB,
    };
  });
}

/** Returns how often the guest has written its whole set, by its own count. */
async function generation(bed: Testbed): Promise<number> {
  const words = await bed.shell(0, verifyMemory());
  return Number(/generation (\d+)/.exec(words)?.[1]);
}
