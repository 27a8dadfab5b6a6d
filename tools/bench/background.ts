/**
 * How long VMs stand for a background capture, by their size and by what they do meanwhile: four at a
 * time, rounds idle and rounds with a quarter of their memory being rewritten.
 *
 *     4 × 0.5, 1, 2 GiB ──▶ rounds idle ──▶ dirty on all ──▶ rounds busy
 *
 * A size whose shadows this host has no room for is left out, and said so.
 */
import type { RoundReport } from '../../proxy/coordinator/report.ts';
import { measureRoom } from '../../shadow/index.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { Row } from './bench.ts';
import { filled } from './mixed-load.ts';
import { spread } from './statistics.ts';

const NODES = 4;
const SIZES_MIB = [512, 1024, 2048];
/** Of its memory, and how much of it a second. */
const BUSY_SHARE = 0.25;
const BUSY_MIB_PER_SECOND = 40;
/** A round and an epoch, and as much for the VMs themselves. */
const ROOM_PER_RAM = 3;

export interface BackgroundSeries {
  readonly memoryMiB: number;
  /** Of each VM in each round, milliseconds. */
  readonly idleMs: readonly number[];
  readonly busyMs: readonly number[];
}

export async function backgroundSeries(
  runs: number,
  progress: (line: string) => void,
): Promise<BackgroundSeries[]> {
  const series: BackgroundSeries[] = [];
  for (const memoryMiB of SIZES_MIB) {
    const neededBytes = NODES * memoryMiB * 2 ** 20 * ROOM_PER_RAM;
    const { availableBytes } = await measureRoom('/dev/shm');
    if (availableBytes < neededBytes) {
      progress(`background, ${NODES} × ${memoryMiB} MiB: left out, for want of memory`);
      continue;
    }
    progress(`background, ${NODES} × ${memoryMiB} MiB`);
    series.push(await seriesOf(memoryMiB, runs));
  }
  return series;
}

async function seriesOf(memoryMiB: number, runs: number): Promise<BackgroundSeries> {
  const settings = { round: { capture: 'background' }, epochs: { keep: 1 } };
  const bed = await Testbed.create({ nodes: NODES, memoryMiB, qemu: await newestQemu(), settings });
  try {
    await bed.up();
    const idleMs = await downtimes(bed, runs);
    const dirty = `dirty --size-mib ${memoryMiB * BUSY_SHARE} --rate-mib ${BUSY_MIB_PER_SECOND}`;
    for (let node = 0; node < NODES; node++) await bed.shell(node, `${dirty} >/run/dirty.log &`);
    for (let node = 0; node < NODES; node++) await filled(bed, node);
    return { memoryMiB, idleMs, busyMs: await downtimes(bed, runs) };
  } finally {
    await bed.dispose();
  }
}

/** The first round of a VM is not counted: later ones find its memory in small pages. */
async function downtimes(bed: Testbed, runs: number): Promise<number[]> {
  await bed.json<RoundReport>('checkpoint');
  const found: number[] = [];
  for (let run = 0; run < runs; run++) {
    const { members } = await bed.json<RoundReport>('checkpoint');
    found.push(...members.map(({ downtimeMs = Number.NaN }) => downtimeMs));
  }
  return found;
}

export function backgroundFigures(series: readonly BackgroundSeries[]): Record<string, number> {
  const busy = spread(series.flatMap(({ busyMs }) => busyMs));
  const ratios = series.map(({ busyMs, idleMs }) => spread(busyMs).median / spread(idleMs).median);
  return {
    background_ms_median: busy.median,
    background_ms_max: busy.max,
    background_busy_over_idle: spread(ratios).median,
  };
}

export function backgroundRows(series: readonly BackgroundSeries[]): Row[] {
  return series.flatMap(({ memoryMiB, idleMs, busyMs }) => [
    {
      what: `own downtime, background, ${NODES} × ${memoryMiB} MiB idle`,
      unit: 'ms',
      spread: spread(idleMs),
    },
    {
      what: `own downtime, background, ${NODES} × ${memoryMiB} MiB busy`,
      unit: 'ms',
      spread: spread(busyMs),
    },
  ]);
}
