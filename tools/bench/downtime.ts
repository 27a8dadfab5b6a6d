/**
 * Measures a cluster's checkpoint beside its alternatives; same VMs, same run, in turn:
 *
 *     (a) all VMs stopped, then copied                     capture: stop-copy
 *     (b) QEMU's own precopy, defaults, VM after VM        qemu-precopy.ts
 *     (c) the same, all at once, uncoordinated
 *     Umbra by default: finish-together, all-first-pass; and with parallel, and with no-progress
 *
 *     precopy_vs_stop_copy             cluster downtime, Umbra ÷ (a)
 *     precopy_vs_qemu_best             cluster downtime, Umbra ÷ the better of (b) and (c)
 *     precopy_vs_qemu_worst_vm         Umbra’s cluster downtime ÷ a VM’s longest in (c)
 *     latency_vs_qemu_parallel         admitted to committed, Umbra ÷ begun to completed, (c)
 *     live_bytes_over_ram_max          the most any member streamed live ÷ its RAM
 *     budget_peak_over_budget          peak memory of store and proxies ÷ store.budget
 *     finish_together_vs_parallel_*    the same end condition (all-first-pass), bytes and downtime
 *     background_ms_median, _max       downtime of one VM with capture: background (background.ts)
 *     background_busy_over_idle        the same VMs, busy ÷ idle
 *     background_vs_precopy, _vs_stop_copy   cluster downtime of the four beside those
 *     prediction_error_median          |predicted − real| ÷ real, of Umbra’s rounds by default
 *
 * Each ratio is taken within a repetition; the median of those is the figure.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { timelineSvg } from '../cli/timeline-svg.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import { backgroundFigures, backgroundRows, backgroundSeries } from './background.ts';
import { barChart } from './bar-chart.ts';
import type { BenchOptions, Measurement, Row } from './bench.ts';
import { MemoryWatch } from './memory-watch.ts';
import { MIXED, MIXED_RAM_BYTES, mixedBed } from './mixed-load.ts';
import { QemuMigrations, type QemuPrecopy } from './qemu-precopy.ts';
import { spread } from './statistics.ts';

const RUNS = 5;
/** Warm-up rounds, whose reports also calibrate the predictions that are judged afterwards. */
const WARM_UPS = 3;
const IN_FLIGHT_MIB = 16;
/** Memory that the store needs at once: a round and an epoch. */
const BUDGET_BYTES = 2 * MIXED_RAM_BYTES + MIXED.length * IN_FLIGHT_MIB * 2 ** 20;
/** Downtimes of 50 ms vary by half with the order of processes on a core: five rounds are few. */
const PREDICTED_A_TURN = 3;
/** Room for the round beyond the budget, so that exceeding the budget is visible. */
const STORE_BYTES = 3 * MIXED_RAM_BYTES;

type Progress = (line: string) => void;

/** No comparison of memory, as with KVM: the repair of QEMU's emulator is not to be measured. */
const PRECOPY = { capture: 'precopy', compareEmulated: false } as const;
const ROUNDS = {
  umbra: { ...PRECOPY },
  parallel: { ...PRECOPY, multiplexing: 'parallel' },
  'no-progress': { ...PRECOPY, endWhen: ['no-progress'] },
  'no-progress, parallel': { ...PRECOPY, endWhen: ['no-progress'], multiplexing: 'parallel' },
  background: { capture: 'background' },
  'stop-copy': { capture: 'stop-copy', stopDeadline: '60s' },
} as const;

type RoundName = keyof typeof ROUNDS;
const ROUND_NAMES = Object.keys(ROUNDS) as RoundName[];

/** One repetition of everything. */
interface Turn {
  readonly rounds: Readonly<Record<RoundName, RoundReport>>;
  readonly sequential: QemuPrecopy;
  readonly parallel: QemuPrecopy;
  readonly peakBytes: number;
  /** Prediction errors of all of Umbra's rounds by default. */
  readonly predictionErrors: readonly number[];
}

export async function benchDowntime(
  progress: Progress,
  { out, runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const turns = await mixedTurns(runs, progress);
  const job = await jobRounds(runs, progress);
  const series = await backgroundSeries(runs, progress);
  if (out !== undefined) draw(out, turns);
  const figures = { ...figuresOf(turns), ...backgroundFigures(series) };
  return { figures, rows: [...rowsOf(turns), ...job, ...backgroundRows(series)] };
}

async function mixedTurns(runs: number, progress: Progress): Promise<Turn[]> {
  const watch = new MemoryWatch(STORE_BYTES);
  try {
    const bed = await mixedBed({}, watch.directory);
    try {
      const migrations = await QemuMigrations.open(bed);
      const turns: Turn[] = [];
      for (let run = 0; run < WARM_UPS + runs; run++) {
        progress(run < WARM_UPS ? `warm-up ${run + 1}` : `turn ${run - WARM_UPS + 1} of ${runs}`);
        const turn = await takeTurn(bed, watch, migrations);
        if (run >= WARM_UPS) turns.push(turn);
      }
      migrations.close();
      return turns;
    } finally {
      await bed.dispose();
    }
  } finally {
    watch.dispose();
  }
}

async function takeTurn(
  bed: Testbed,
  watch: MemoryWatch,
  migrations: QemuMigrations,
): Promise<Turn> {
  const rounds: Partial<Record<RoundName, RoundReport>> = {};
  const predictionErrors: number[] = [];
  let peakBytes = 0;
  for (const name of ROUND_NAMES) {
    await bed.reconfigure({
      round: { inFlight: `${IN_FLIGHT_MIB}MiB`, ...ROUNDS[name] },
      store: { directory: watch.directory, budget: `${BUDGET_BYTES}B` },
      epochs: { keep: 1 },
    });
    watch.start(bed);
    rounds[name] = await bed.json<RoundReport>('checkpoint');
    peakBytes = Math.max(peakBytes, watch.stop(bed));
    if (name !== 'umbra') continue;
    predictionErrors.push(rounds[name]?.predictionError ?? Number.NaN);
    while (predictionErrors.length < PREDICTED_A_TURN) {
      const { predictionError } = await bed.json<RoundReport>('checkpoint');
      predictionErrors.push(predictionError ?? Number.NaN);
    }
  }
  return {
    rounds: rounds as Record<RoundName, RoundReport>,
    sequential: await migrations.run('one after the other'),
    parallel: await migrations.run('all at once'),
    peakBytes,
    predictionErrors,
  };
}

function figuresOf(turns: readonly Turn[]): Record<string, number> {
  const median = (value: (turn: Turn) => number) => spread(turns.map(value)).median;
  const ours = (turn: Turn) => turn.rounds.umbra;
  const down = ({ clusterDowntimeMs = Number.NaN }: RoundReport) => clusterDowntimeMs;
  return {
    precopy_vs_stop_copy: median((turn) => down(ours(turn)) / down(turn.rounds['stop-copy'])),
    precopy_vs_qemu_best: median((turn) => {
      const { sequential, parallel } = turn;
      const best = Math.min(sequential.clusterDowntimeMs, parallel.clusterDowntimeMs);
      return down(ours(turn)) / best;
    }),
    precopy_vs_qemu_worst_vm: median((turn) => down(ours(turn)) / turn.parallel.worstOwnMs),
    latency_vs_qemu_parallel: median((turn) => ours(turn).durationMs / turn.parallel.latencyMs),
    live_bytes_over_ram_max: Math.max(
      ...turns.flatMap(({ rounds }) => Object.values(rounds).flatMap(liveShares)),
    ),
    budget_peak_over_budget: Math.max(...turns.map((turn) => turn.peakBytes / BUDGET_BYTES)),
    finish_together_vs_parallel_bytes: median(
      (turn) => ours(turn).streamBytes / turn.rounds.parallel.streamBytes,
    ),
    finish_together_vs_parallel_downtime: median(
      (turn) => down(ours(turn)) / down(turn.rounds.parallel),
    ),
    ...backgroundRatios(turns),
    prediction_error_median: spread(turns.flatMap((turn) => turn.predictionErrors)).median,
  };
}

function backgroundRatios(turns: readonly Turn[]): Record<string, number> {
  const down = ({ clusterDowntimeMs = Number.NaN }: RoundReport) => clusterDowntimeMs;
  const ratio = (other: RoundName) => {
    return spread(turns.map(({ rounds }) => down(rounds.background) / down(rounds[other]))).median;
  };
  return {
    background_vs_precopy: ratio('umbra'),
    background_vs_stop_copy: ratio('stop-copy'),
  };
}

function liveShares({ members }: RoundReport): number[] {
  return members.map(({ liveBytes = 0, reservedBytes = 1 }) => liveBytes / reservedBytes);
}

function rowsOf(turns: readonly Turn[]): Row[] {
  const row = (what: string, unit: string, value: (turn: Turn) => number): Row => {
    return { what, unit, spread: spread(turns.map(value)) };
  };
  const perRound = ROUND_NAMES.flatMap((name) => [
    row(`downtime, ${name}`, 'ms', ({ rounds }) => rounds[name].clusterDowntimeMs ?? Number.NaN),
    row(`latency, ${name}`, 's', ({ rounds }) => rounds[name].durationMs / 1000),
    row(`streamed, ${name}`, 'MiB', ({ rounds }) => rounds[name].streamBytes / 2 ** 20),
    row(`live bytes ÷ RAM, ${name}`, '', (turn) => Math.max(...liveShares(turn.rounds[name]))),
    ...(name === 'stop-copy' || name === 'background'
      ? []
      : [
          row(
            `prediction error, ${name}`,
            '',
            (turn) => turn.rounds[name].predictionError ?? Number.NaN,
          ),
        ]),
  ]);
  const perBaseline = (['sequential', 'parallel'] as const).flatMap((how) => [
    row(`downtime, QEMU ${how}`, 'ms', (turn) => turn[how].clusterDowntimeMs),
    row(`longest own downtime, QEMU ${how}`, 'ms', (turn) => turn[how].worstOwnMs),
    row(`latency, QEMU ${how}`, 's', (turn) => turn[how].latencyMs / 1000),
    row(`streamed, QEMU ${how}`, 'MiB', (turn) => turn[how].bytes / 2 ** 20),
  ]);
  return [
    ...perRound,
    ...perBaseline,
    row('memory at its peak', 'MiB', ({ peakBytes }) => peakBytes / 2 ** 20),
    { what: 'memory budget', unit: 'MiB', spread: spread([BUDGET_BYTES / 2 ** 20]) },
  ];
}

/** Measures the same where the load is one MPI job on all four VMs, instead of four loads. */
async function jobRounds(runs: number, progress: Progress): Promise<Row[]> {
  progress('four VMs under an MPI job');
  const bed = await Testbed.create({ nodes: 4, watch: true, qemu: await newestQemu() });
  try {
    await bed.up();
    await bed.shell(0, '/job/xdlu 400 400 again'); // outlasts all rounds
    const migrations = await QemuMigrations.open(bed);
    const precopy: number[] = [];
    const stopCopy: number[] = [];
    const qemu: number[] = [];
    for (let run = 0; run <= runs; run++) {
      const taken = async (name: RoundName) => {
        await bed.reconfigure({ round: ROUNDS[name], epochs: { keep: 1 } });
        const { clusterDowntimeMs } = await bed.json<RoundReport>('checkpoint');
        return clusterDowntimeMs ?? Number.NaN;
      };
      const values = [await taken('umbra'), await taken('stop-copy')] as const;
      const { clusterDowntimeMs } = await migrations.run('all at once');
      if (run === 0) continue;
      precopy.push(values[0]);
      stopCopy.push(values[1]);
      qemu.push(clusterDowntimeMs);
    }
    migrations.close();
    return [
      { what: 'downtime under MPI, umbra', unit: 'ms', spread: spread(precopy) },
      { what: 'downtime under MPI, stop-copy', unit: 'ms', spread: spread(stopCopy) },
      { what: 'downtime under MPI, QEMU parallel', unit: 'ms', spread: spread(qemu) },
    ];
  } finally {
    await bed.dispose();
  }
}

function draw(out: string, turns: readonly Turn[]): void {
  mkdirSync(out, { recursive: true });
  const rows = rowsOf(turns);
  for (const what of ['downtime', 'latency', 'streamed']) {
    const chosen = rows.filter((row) => row.what.startsWith(`${what}, `));
    writeFileSync(join(out, `${what}.svg`), barChart(what, chosen));
  }
  const [last] = turns.slice(-1);
  for (const name of last === undefined ? [] : ROUND_NAMES) {
    const file = `timeline-${name.replaceAll(/[^a-z]+/g, '-')}.svg`;
    const report = last?.rounds[name];
    if (report !== undefined) writeFileSync(join(out, file), timelineSvg(report));
  }
}
