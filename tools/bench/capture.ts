/**
 * Measures the capture of a large VM's memory beside QEMU's own migration of the same VM, in turn:
 *
 *     exec:cat >/dev/null         nothing is kept
 *     exec:cat >FILE on tmpfs     a common way to keep memory: a new file; the previous one is
 *                                 removed when the new one is complete
 *     … into memory just freed    the same, but the previous file is removed first, so that its
 *                                 memory is used again. No copy is complete meanwhile
 *     a whole epoch               store.delta: false, into memory that an earlier epoch has left
 *     the first epoch             whole, into fresh memory
 *     later epochs                deltas
 *
 *     capture_vs_devnull       time into /dev/null ÷ time of a round of a later epoch with default
 *                              settings, from its begin to the commit
 *     capture_vs_tmpfs_file    the same beside the new file
 *     capture_vs_tmpfs_reused  the same beside the file in memory just freed
 *     whole_vs_devnull, whole_vs_tmpfs_file   the same for a whole epoch
 *     second_epoch_vs_first    time of a later epoch ÷ time of a whole one; and ÷ the first
 *     proxy_rss_mib_6g         the proxy's resident memory at its peak (VmHWM)
 *
 * Fresh memory is slow where the host is itself a VM whose free memory returns to its own host
 * (balloon, free page reporting). Keeping an epoch's memory for the next one avoids that.
 *
 * A VM's migration and its round run one after the other, so each ratio is within a repetition.
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
  await bed.json('checkpoint'); // its memory is used again by the round after the next
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
