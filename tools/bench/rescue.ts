/**
 * Measures the rescue of an MPI job, and its parts:
 *
 *     demo_s                   the whole demo, wall clock
 *     downtime_ms_2vm, _4vm    cluster downtime of a checkpoint under an MPI job
 *     skew_ms_4vm              first to last stop
 *     restore_map_ms_512m      a 512 MiB VM, from the start of QEMU to loaded, by each mode
 *     restore_stream_ms_512m
 *     capture_vs_devnull       bytes per second into a shadow ÷ the same VM into /dev/null
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RestoreReport, RoundReport } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import type { Measurement, Row } from './bench.ts';
import { migrateInto } from './qemu-migrate.ts';
import { spread } from './statistics.ts';
import { withBed } from './with-bed.ts';

const RUNS = 5;
const CAPTURE_GUEST_MIB = 1024;
/** Memory that is not zero. */
const HARDLY_CHANGING = { rateMiB: 1, pattern: 'random' } as const;
const CAPTURE_FILL_MIB = 640;
const RESTORE_GUEST_MIB = 512;
const RESTORE_FILL_MIB = 256;
/** A job that lasts longer than all checkpoints of a run; its end is not waited for. */
const JOB = '/job/xdlu 400 400 again';

type Progress = (line: string) => void;

export async function benchRescue(progress: Progress): Promise<Measurement> {
  const two = await downtime(2, progress);
  const four = await downtime(4, progress);
  const restores = await restore(progress);
  const capture = await captureRatio(progress);
  const demoSeconds = await demo(progress);
  const rows: Row[] = [
    { what: 'demo', unit: 's', spread: spread([demoSeconds]) },
    { what: 'cluster downtime, 2 VMs', unit: 'ms', spread: spread(two.downtimes) },
    { what: 'cluster downtime, 4 VMs', unit: 'ms', spread: spread(four.downtimes) },
    { what: 'stop skew, 2 VMs', unit: 'ms', spread: spread(two.skews) },
    { what: 'stop skew, 4 VMs', unit: 'ms', spread: spread(four.skews) },
    { what: 'streamed per member, 2 VMs', unit: 'MiB', spread: spread(two.mebibytes) },
    { what: 'streamed per member, 4 VMs', unit: 'MiB', spread: spread(four.mebibytes) },
    { what: 'restore by map, 512 MiB', unit: 'ms', spread: spread(restores.map) },
    { what: 'restore by stream, 512 MiB', unit: 'ms', spread: spread(restores.stream) },
    { what: 'capture rate', unit: 'MB/s', spread: spread(capture.shadow) },
    { what: 'into /dev/null', unit: 'MB/s', spread: spread(capture.devnull) },
    { what: 'capture ÷ /dev/null', unit: '', spread: spread(capture.ratios) },
  ];
  const median = (what: string) => rows.find((row) => row.what === what)?.spread.median ?? 0;
  return {
    figures: {
      demo_s: median('demo'),
      downtime_ms_2vm: median('cluster downtime, 2 VMs'),
      downtime_ms_4vm: median('cluster downtime, 4 VMs'),
      skew_ms_4vm: median('stop skew, 4 VMs'),
      restore_map_ms_512m: median('restore by map, 512 MiB'),
      restore_stream_ms_512m: median('restore by stream, 512 MiB'),
      capture_vs_devnull: median('capture ÷ /dev/null'),
    },
    rows,
  };
}

interface Downtimes {
  readonly downtimes: readonly number[];
  readonly skews: readonly number[];
  readonly mebibytes: readonly number[];
}

/** Measures checkpoints of a cluster while an MPI job runs on it. */
async function downtime(nodes: number, progress: Progress): Promise<Downtimes> {
  progress(`downtime of ${nodes} VMs under an MPI job`);
  return withBed({ nodes, memoryMiB: 256 }, async (bed) => {
    await bed.shell(0, JOB);
    const rounds: RoundReport[] = [];
    for (let run = 0; run <= RUNS; run++) {
      const round = await bed.json<RoundReport>('checkpoint');
      if (run > 0) rounds.push(round); // the first warms up
    }
    return {
      downtimes: rounds.map(({ clusterDowntimeMs }) => clusterDowntimeMs ?? Number.NaN),
      skews: rounds.map(({ skewMs }) => skewMs ?? Number.NaN),
      mebibytes: rounds.map(({ streamBytes }) => streamBytes / nodes / 2 ** 20),
    };
  });
}

async function restore(progress: Progress): Promise<{ map: number[]; stream: number[] }> {
  progress(`restore of a ${RESTORE_GUEST_MIB} MiB VM`);
  return withBed({ nodes: 1, memoryMiB: RESTORE_GUEST_MIB }, async (bed) => {
    await bed.dirty(0, { ...HARDLY_CHANGING, sizeMiB: RESTORE_FILL_MIB });
    await bed.json('checkpoint');
    const times: { map: number[]; stream: number[] } = { map: [], stream: [] };
    for (let run = 0; run <= RUNS; run++) {
      for (const mode of ['map', 'stream'] as const) {
        bed.killAll();
        const { members } = await bed.json<RestoreReport>('restore', '1', '--mode', mode);
        if (run > 0) times[mode].push(members[0]?.loadMs ?? Number.NaN);
      }
    }
    return times;
  });
}

interface Capture {
  readonly shadow: readonly number[];
  readonly devnull: readonly number[];
  readonly ratios: readonly number[];
}

/** Measures one VM in turn through its proxy into a shadow and into `exec:cat >/dev/null`. */
async function captureRatio(progress: Progress): Promise<Capture> {
  progress(`capture of a ${CAPTURE_GUEST_MIB} MiB VM beside /dev/null`);
  const options = { nodes: 1, memoryMiB: CAPTURE_GUEST_MIB, watch: true };
  return withBed(options, async (bed) => {
    await bed.dirty(0, { ...HARDLY_CHANGING, sizeMiB: CAPTURE_FILL_MIB });
    const monitor = await QmpClient.connect(join(bed.memberDirectory(0), 'watch.sock'));
    const shadow: number[] = [];
    const devnull: number[] = [];
    for (let run = 0; run <= RUNS; run++) {
      const { totalMs, bytes } = await migrateInto(monitor, 'exec:cat >/dev/null');
      const { members, streamBytes } = await bed.json<RoundReport>('checkpoint');
      const { liveMs = 0, drainMs = 0 } = members[0] ?? {};
      if (run === 0) continue;
      devnull.push(bytes / totalMs / 1000);
      shadow.push(streamBytes / (liveMs + drainMs) / 1000);
    }
    monitor.close();
    return { shadow, devnull, ratios: shadow.map((rate, run) => rate / (devnull[run] ?? 1)) };
  });
}

async function demo(progress: Progress): Promise<number> {
  progress('the demo, whole');
  const entry = fileURLToPath(new URL('../demo/main.ts', import.meta.url));
  const start = performance.now();
  const child = spawn(process.execPath, ['--import', 'tsx', entry], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  if (code !== 0) throw new Error(`the demo failed with status ${code}`);
  return (performance.now() - start) / 1000;
}
