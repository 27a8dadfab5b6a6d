/**
 * Measures how much a job slows down while an epoch is copied to disk. Two VMs run an MPI job, in
 * windows of equal length with and without an epoch being persisted:
 *
 *     job_slowdown        time per iteration while persisting ÷ without, as reported by the job
 *     compression_ratio   size of an epoch of the job’s VMs ÷ its size on disk
 *
 * The VMs are first filled with random bytes, which do not compress: the worst case, and long
 * enough windows to count iterations in. The compression ratio is that of an epoch taken before.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DaemonClient } from '../../proxy/client/daemon-client.ts';
import type { EpochInfo } from '../../proxy/protocol/epoch.ts';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import type { PersistReport } from '../../proxy/protocol/status.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { BenchOptions, Measurement, Row } from './bench.ts';
import { spread } from './statistics.ts';

const RUNS = 5;
const NODES = 2;
const GUEST_MIB = 640;
/** A job of short iterations that lasts longer than all runs; its end is not waited for. */
const JOB = '/job/xdlu 400 150 again';
const NOISE = { sizeMiB: 320, rateMiB: 1, pattern: 'random' } as const;
const LEAST_ITERATIONS = 5;
const POLL_MS = 500;
const LIMIT_MS = 300_000;

interface Run {
  readonly slowdown: number;
  readonly withoutMs: number;
  readonly withMs: number;
  readonly report: PersistReport;
}

export async function benchPersist(
  progress: (line: string) => void,
  { runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const disk = mkdtempSync(join(tmpdir(), 'umbra-bench-'));
  // Whole epochs: a delta would be on disk within one iteration.
  const settings = {
    persist: { to: disk, keep: 1 },
    epochs: { keep: 1 },
    store: { delta: false },
  };
  const qemu = await newestQemu();
  const bed = await Testbed.create({ nodes: NODES, memoryMiB: GUEST_MIB, qemu, settings });
  try {
    await bed.up();
    const client = new DaemonClient('demo', bed.directory);
    try {
      return await measure(bed, client, runs, progress);
    } finally {
      await client.close();
    }
  } finally {
    await bed.dispose();
    rmSync(disk, { recursive: true, force: true });
  }
}

async function measure(
  bed: Testbed,
  client: DaemonClient,
  runs: number,
  progress: (line: string) => void,
): Promise<Measurement> {
  await bed.shell(0, JOB);
  progress('an epoch of the job’s VMs as they are');
  const plain = await persisted(client, await checkpoint(bed));
  for (let node = 0; node < NODES; node++) {
    await bed.dirty(node, NOISE);
  }
  const done: Run[] = [];
  for (let run = 0; run <= runs; run++) {
    progress(run === 0 ? 'warm-up' : `run ${run} of ${runs}`);
    const epoch = await checkpoint(bed);
    const during = await iterations(bed, () => persisted(client, epoch));
    const { durationMs } = during.result;
    const without = await iterations(bed, () => idle(client, durationMs));
    if (run === 0) continue;
    const slowdown = during.meanMs / without.meanMs;
    const report = during.result;
    done.push({ slowdown, withoutMs: without.meanMs, withMs: during.meanMs, report });
  }
  const row = (what: string, unit: string, value: (run: Run) => number): Row => {
    return { what, unit, spread: spread(done.map(value)) };
  };
  const ratio = plain.contentBytes / plain.storedBytes;
  const rows: Row[] = [
    row('job slowdown while persisting', '', ({ slowdown }) => slowdown),
    row('time per iteration, without', 'ms', ({ withoutMs }) => withoutMs),
    row('time per iteration, persisting', 'ms', ({ withMs }) => withMs),
    row('persisting took', 's', ({ report }) => report.durationMs / 1000),
    row('content persisted', 'MiB', ({ report }) => report.contentBytes / 2 ** 20),
    row('content persisted a second', 'MiB', ({ report }) => {
      return report.contentBytes / 2 ** 20 / (report.durationMs / 1000);
    }),
    row('compression ratio, half noise', '', ({ report }) => {
      return report.contentBytes / report.storedBytes;
    }),
    { what: 'compression ratio, MPI job', unit: '', spread: spread([ratio]) },
  ];
  return {
    figures: {
      job_slowdown: spread(done.map(({ slowdown }) => slowdown)).median,
      compression_ratio: ratio,
    },
    rows,
  };
}

async function checkpoint(bed: Testbed): Promise<number> {
  const { epoch } = await bed.json<RoundReport>('checkpoint');
  if (epoch === undefined) throw new Error('the checkpoint was not committed');
  return epoch;
}

async function persisted(client: DaemonClient, epoch: number): Promise<PersistReport> {
  for (const end = performance.now() + LIMIT_MS; performance.now() < end; await delay(POLL_MS)) {
    if (!(await look(client)).some((one) => one.epoch === epoch && one.onDisk)) continue;
    const { persist } = await client.ask('status', {});
    if (persist?.last?.epoch === epoch) return persist.last;
  }
  throw new Error(`epoch ${epoch} was not on disk in time`);
}

/** Waits without persisting, but with as many requests, so that their cost cancels out. */
async function idle(client: DaemonClient, ms: number): Promise<void> {
  for (const end = performance.now() + ms; performance.now() < end; await delay(POLL_MS)) {
    await look(client);
  }
}

/** Lists the epochs. `/v1/status` would query every VM, which delays its guest. */
async function look(client: DaemonClient): Promise<readonly EpochInfo[]> {
  return (await client.ask('epochs', {})).epochs;
}

/** Returns the mean wall time of the iterations that began and ended during `work`. */
async function iterations<T>(
  bed: Testbed,
  work: () => Promise<T>,
): Promise<{ readonly meanMs: number; readonly result: T }> {
  const first = (await walls(bed)).length;
  const result = await work();
  // The first one began before the work.
  const inside = (await walls(bed)).slice(first + 1);
  if (inside.length < LEAST_ITERATIONS) {
    throw new Error(`only ${inside.length} iterations: too few to compare`);
  }
  const seconds = inside.reduce((sum, one) => sum + one, 0) / inside.length;
  return { meanMs: seconds * 1000, result };
}

/** Returns the seconds of each iteration so far, to factor and to solve, by the job's clock. */
async function walls(bed: Testbed): Promise<number[]> {
  const out = await bed.shell(0, "grep '^WALL .* PASSED' /job/out || true");
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [factor, solve] = line.trim().split(/\s+/).slice(-4, -2).map(Number);
      return (factor ?? Number.NaN) + (solve ?? Number.NaN);
    });
}
