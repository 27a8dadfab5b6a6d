/**
 * What it costs to take a large VM's memory, beside what QEMU itself does with it; same VM, in turn:
 *
 *     exec:cat >/dev/null               nothing keeps it
 *     exec:cat >FILE on tmpfs           what people do who keep it in memory: a new file, and when it is
 *                                       whole, the last one goes
 *     … into memory just freed          the same, the last one removed first: for a moment its memory is
 *                                       there to be used again. Nobody could rely on such copies
 *     a whole epoch                     store.delta: false, into memory an epoch before has left
 *     the first epoch                   whole, into fresh memory
 *     later epochs                      deltas
 *
 *     capture_vs_devnull       time into /dev/null ÷ time of a round, from its begin to the commit: of a
 *                              later epoch, as rounds come by default
 *     capture_vs_tmpfs_file    the same beside the new file
 *     capture_vs_tmpfs_reused  … beside the file in memory just freed
 *     whole_vs_devnull, whole_vs_tmpfs_file   the same of a whole epoch
 *     second_epoch_vs_first    time of a later epoch ÷ time of a whole one; and ÷ the first
 *     proxy_rss_mib_6g         the proxy's resident memory at its peak (VmHWM)
 *
 * Fresh memory is slow where the host is itself a VM whose free memory goes back to its own host (balloon,
 * free page reporting): that is what an epoch's memory being kept for the next one saves.
 *
 * A VM's migration and its round are taken one after the other, so each ratio is within a repetition.
 */
import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { QmpClient } from '../../qmp/index.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { BenchOptions, Measurement, Row } from './bench.ts';
import { peakResident } from './memory-watch.ts';
import { migrateInto } from './qemu-migrate.ts';
import { spread } from './statistics.ts';

const RUNS = 5;
const GUEST_MIB = 6 * 1024;
const FILL_MIB = 2560;
const STORE = { headroom: '64MiB' };

interface Turn {
  readonly devnullMs: number;
  readonly tmpfsMs: number;
  readonly reusedMs: number;
  readonly wholeMs: number;
  readonly firstMs: number;
  readonly laterMs: number;
  readonly streamedMiB: number;
  readonly laterStoredMiB: number;
}

export async function benchCapture(
  progress: (line: string) => void,
  { runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const options = { nodes: 1, memoryMiB: GUEST_MIB, watch: true, qemu: await newestQemu() };
  const bed = await Testbed.create({ ...options, settings: { store: STORE } });
  try {
    progress(`a VM of ${GUEST_MIB} MiB, ${FILL_MIB} MiB of it in use`);
    await bed.up();
    await bed.dirty(0, { sizeMiB: FILL_MIB, rateMiB: 2, pattern: 'random' });
    const monitor = await QmpClient.connect(join(bed.memberDirectory(0), 'watch.sock'));
    const turns: Turn[] = [];
    for (let run = 0; run <= runs; run++) {
      progress(run === 0 ? 'warm-up' : `turn ${run} of ${runs}`);
      const turn = await takeTurn(bed, monitor);
      if (run > 0) turns.push(turn);
    }
    monitor.close();
    return measured(turns, peakResident(bed) / 2 ** 20);
  } finally {
    await bed.dispose();
  }
}

async function takeTurn(bed: Testbed, monitor: QmpClient): Promise<Turn> {
  const file = join(bed.home, 'stream');
  const devnull = await migrateInto(monitor, 'exec:cat >/dev/null');
  await migrateInto(monitor, `exec:cat >${file}`);
  const tmpfs = await migrateInto(monitor, `exec:cat >${file}.new`);
  renameSync(`${file}.new`, file);
  rmSync(file);
  const reused = await migrateInto(monitor, `exec:cat >${file}`);
  rmSync(file);
  await bed.reconfigure({ store: { ...STORE, delta: false }, epochs: { keep: 1 } });
  await bed.json('checkpoint'); // leaves its memory to the next but one
  await bed.json('checkpoint');
  const whole = await bed.json<RoundReport>('checkpoint');
  await bed.reconfigure({ store: STORE, epochs: { keep: 2 } });
  await bed.json('rm', String(whole.epoch));
  const first = await bed.json<RoundReport>('checkpoint');
  await bed.json('checkpoint');
  const later = await bed.json<RoundReport>('checkpoint');
  const { epochs } = await bed.json<{ epochs: { epoch: number }[] }>('epochs');
  for (const { epoch } of epochs) await bed.json('rm', String(epoch));
  return {
    devnullMs: devnull.totalMs,
    tmpfsMs: tmpfs.totalMs,
    reusedMs: reused.totalMs,
    wholeMs: whole.durationMs,
    firstMs: first.durationMs,
    laterMs: later.durationMs,
    streamedMiB: whole.streamBytes / 2 ** 20,
    laterStoredMiB: later.storedBytes / 2 ** 20,
  };
}

function measured(turns: readonly Turn[], residentMiB: number): Measurement {
  const median = (value: (turn: Turn) => number) => spread(turns.map(value)).median;
  const row = (what: string, unit: string, value: (turn: Turn) => number): Row => {
    return { what, unit, spread: spread(turns.map(value)) };
  };
  return {
    figures: {
      capture_vs_devnull: median(({ devnullMs, laterMs }) => devnullMs / laterMs),
      capture_vs_tmpfs_file: median(({ tmpfsMs, laterMs }) => tmpfsMs / laterMs),
      capture_vs_tmpfs_reused: median(({ reusedMs, laterMs }) => reusedMs / laterMs),
      whole_vs_devnull: median(({ devnullMs, wholeMs }) => devnullMs / wholeMs),
      whole_vs_tmpfs_file: median(({ tmpfsMs, wholeMs }) => tmpfsMs / wholeMs),
      second_epoch_vs_first: median(({ laterMs, wholeMs, firstMs }) => {
        return laterMs / Math.min(wholeMs, firstMs);
      }),
      proxy_rss_mib_6g: residentMiB,
    },
    rows: [
      row('into /dev/null', 'ms', ({ devnullMs }) => devnullMs),
      row('into a new file on tmpfs', 'ms', ({ tmpfsMs }) => tmpfsMs),
      row('into memory just freed', 'ms', ({ reusedMs }) => reusedMs),
      row('a whole epoch, into used memory', 'ms', ({ wholeMs }) => wholeMs),
      row('the first epoch, into fresh memory', 'ms', ({ firstMs }) => firstMs),
      row('a later epoch', 'ms', ({ laterMs }) => laterMs),
      row('/dev/null ÷ a whole epoch', '', ({ devnullMs, wholeMs }) => devnullMs / wholeMs),
      row('/dev/null ÷ a later epoch', '', ({ devnullMs, laterMs }) => devnullMs / laterMs),
      row('streamed', 'MiB', ({ streamedMiB }) => streamedMiB),
      row('stored by a later epoch', 'MiB', ({ laterStoredMiB }) => laterStoredMiB),
      { what: 'proxy’s resident memory', unit: 'MiB', spread: spread([residentMiB]) },
    ],
  };
}
