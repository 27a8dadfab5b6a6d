/**
 * Measures the time of a restore beside QEMU's own start; same VM, in turn:
 *
 *     start       QEMU started with the VM's command line, until its monitor answers
 *     map         umbra restore: from the request until the VM runs
 *     incoming    QEMU's own: started with -incoming on a file of the same state, until the VM runs
 *
 *     map_vs_qemu_start_*     map ÷ start, a VM of 512 MiB, 2 GiB, 6 GiB; a whole epoch
 *     delta_vs_qemu_start_*   the same, of an epoch that is a delta: some of it is streamed
 *     incoming_vs_map_2g      incoming ÷ map, the slower of the two
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { recordedVm, startVm, type VmProcess } from '../../proxy/agent/vms/vm-process.ts';
import { restoreCommandLine } from '../../proxy/command-line/restore-line.ts';
import { isAlive, killProcess } from '../../proxy/host/pid-file.ts';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { BenchOptions, Measurement, Row } from './bench.ts';
import { migrateInto } from './qemu-migrate.ts';
import { spread } from './statistics.ts';

const RUNS = 25;
/** Sizes of guests, and the amount of memory in use. */
const SIZES = [
  { name: '512m', memoryMiB: 512, fillMiB: 256 },
  { name: '2g', memoryMiB: 2048, fillMiB: 1024 },
  { name: '6g', memoryMiB: 6144, fillMiB: 2048 },
] as const;
const INCOMING_AT = '2g';
/** Interval of attempts to connect: QEMU does not report that its monitor listens. */
const LOOK_MS = 1;

/** A restore, and a start of QEMU right before it: a machine's speed may vary within seconds. */
interface Pair {
  readonly start: number;
  readonly map: number;
}

interface Times {
  readonly whole: Pair[];
  readonly delta: Pair[];
  readonly incoming: number[];
}

export async function benchRestore(
  progress: (line: string) => void,
  { runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const figures: Record<string, number> = {};
  const rows: Row[] = [];
  for (const size of SIZES) {
    progress(`a VM of ${size.memoryMiB} MiB`);
    const times = await timesOf(size, runs);
    const row = (what: string, values: readonly number[]) => {
      if (values.length > 0) rows.push({ what, unit: 'ms', spread: spread(values) });
    };
    const { whole, delta, incoming } = times;
    const ratio = (pairs: readonly Pair[]) => {
      return spread(pairs.map(({ start, map }) => map / start)).median;
    };
    const maps = (pairs: readonly Pair[]) => pairs.map(({ map }) => map);
    const starts = [...whole, ...delta].map(({ start }) => start);
    row(`QEMU to its monitor, ${size.name}`, starts);
    row(`restore by map of a whole epoch, ${size.name}`, maps(whole));
    row(`restore by map of a delta, ${size.name}`, maps(delta));
    row(`QEMU -incoming, ${size.name}`, incoming);
    figures[`map_vs_qemu_start_${size.name}`] = ratio(whole);
    figures[`delta_vs_qemu_start_${size.name}`] = ratio(delta);
    if (size.name !== INCOMING_AT) continue;
    const overSlower = incoming.map((time, run) => {
      return time / Math.max(whole[run]?.map ?? Number.NaN, delta[run]?.map ?? Number.NaN);
    });
    figures[`incoming_vs_map_${size.name}`] = spread(overSlower).median;
  }
  return { figures, rows };
}

async function timesOf(size: (typeof SIZES)[number], runs: number): Promise<Times> {
  const { memoryMiB, fillMiB } = size;
  const options = { nodes: 1, memoryMiB, watch: true, qemu: await newestQemu() };
  const bed = await Testbed.create({ ...options, settings: { store: { headroom: '64MiB' } } });
  try {
    await bed.up();
    await bed.dirty(0, { sizeMiB: fillMiB, rateMiB: 1, pattern: 'random' });
    const vm = recordedVm(bed.memberDirectory(0));
    if (vm === undefined) throw new Error('no VM is recorded');
    const file = join(bed.home, 'stream');
    const monitor = await QmpClient.connect(join(bed.memberDirectory(0), 'watch.sock'));
    if (size.name === INCOMING_AT) await migrateInto(monitor, `exec:cat >${file}`);
    monitor.close();
    const whole = await bed.json<RoundReport>('checkpoint');
    const delta = await bed.json<RoundReport>('checkpoint');
    const times: Times = { whole: [], delta: [], incoming: [] };
    const pair = async (epoch: number | undefined): Promise<Pair> => {
      return { start: await startTime(bed, vm), map: await restoreTime(bed, epoch) };
    };
    for (let run = 0; run <= runs; run++) {
      const ofWhole = await pair(whole.epoch);
      const ofDelta = await pair(delta.epoch);
      const incoming = size.name === INCOMING_AT ? await incomingTime(bed, vm, file) : undefined;
      if (run === 0) continue;
      times.whole.push(ofWhole);
      times.delta.push(ofDelta);
      if (incoming !== undefined) times.incoming.push(incoming);
    }
    return times;
  } finally {
    await bed.dispose();
  }
}

/**
 * Kills the VM and waits until its memory has been freed, which takes a core some time and must not
 * count as part of the restore.
 */
async function endVm(bed: Testbed): Promise<void> {
  const vm = recordedVm(bed.memberDirectory(0));
  if (vm === undefined || !isAlive(vm)) return;
  bed.hangUp();
  await killProcess(vm);
}

async function restoreTime(bed: Testbed, epoch: number | undefined): Promise<number> {
  await endVm(bed);
  const report = await bed.json<RestoreReport>('restore', String(epoch), '--mode', 'map');
  return report.durationMs;
}

/** Measures the time from the start of QEMU until its monitor answers, milliseconds. */
async function startTime(bed: Testbed, vm: VmProcess): Promise<number> {
  const words = restoreCommandLine(vm.commandLine, '');
  const { monitor, process, startedAt } = await launch(bed, words, vm.workingDirectory);
  const time = performance.now() - startedAt;
  monitor.close();
  await killProcess(process);
  return time;
}

/** Measures the time from the start of QEMU until the VM runs, milliseconds. */
async function incomingTime(bed: Testbed, vm: VmProcess, file: string): Promise<number> {
  const words = [...restoreCommandLine(vm.commandLine, ''), '-incoming', `exec:cat ${file}`];
  const running = words.filter((word) => word !== '-S');
  const { monitor, process, startedAt } = await launch(bed, running, vm.workingDirectory);
  while (!(await monitor.execute('query-status')).running) await delay(LOOK_MS);
  const time = performance.now() - startedAt;
  monitor.close();
  await killProcess(process);
  return time;
}

async function launch(bed: Testbed, words: readonly string[], workingDirectory: string) {
  await endVm(bed);
  const socket = join(bed.memberDirectory(0), 'watch.sock');
  rmSync(socket, { force: true });
  const startedAt = performance.now();
  const { process } = await startVm(words, workingDirectory, bed.home);
  for (;;) {
    const monitor = await QmpClient.connect(socket).catch(() => undefined);
    if (monitor !== undefined) return { monitor, process, startedAt };
    await delay(LOOK_MS);
  }
}
