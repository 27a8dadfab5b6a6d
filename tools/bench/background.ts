/**
 * Measures how long background captures stop VMs, by size and load: four VMs at once, in rounds
 * while they are idle and in rounds while they rewrite a quarter of their memory.
 *
 *     4 × 0.5, 1, 2 GiB, all of it in huge pages ──▶ rounds idle ──▶ dirty on all ──▶ rounds busy
 *     4 × 2 GiB, only used memory in huge pages  ──▶ the same; not among the figures
 *
 * Before every round, huge pages that the last round split are joined again (round.hugePages). A
 * size is left out, with a message, if the host has no room for its shadows.
 */
import type { RoundReport } from '../../proxy/protocol/report.ts';
import { measureRoom } from '../../shadow/index.ts';
import { untilHuge, untilSettled } from '../testbed/huge-pages.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { Row } from './bench.ts';
import { spread } from './statistics.ts';

const NODES = 4;
interface Kind {
  readonly memoryMiB: number;
  readonly hugePages: 'used' | 'auto';
}

const SERIES: readonly Kind[] = [
  { memoryMiB: 512, hugePages: 'auto' },
  { memoryMiB: 1024, hugePages: 'auto' },
  { memoryMiB: 2048, hugePages: 'auto' },
  { memoryMiB: 2048, hugePages: 'used' },
];
/** Share of a busy VM's memory that it rewrites. */
const BUSY_SHARE = 0.25;
/** Share of huge pages to wait for: the kernel joins none while one of its pages is in use. */
const NEARLY_ALL = 0.98;
const BUSY_MIB_PER_SECOND = 40;
/** Room for VMs and a round, per RAM. An epoch takes little: most of the memory is zeros. */
const ROOM_PER_RAM = 2.25;

export interface BackgroundSeries extends Kind {
  /** Downtimes of each VM in each round, milliseconds. */
  readonly idleMs: readonly number[];
  readonly busyMs: readonly number[];
}

export async function backgroundSeries(
  runs: number,
  progress: (line: string) => void,
): Promise<BackgroundSeries[]> {
  const series: BackgroundSeries[] = [];
  for (const kind of SERIES) {
    const { memoryMiB, hugePages } = kind;
    const what = `background, ${NODES} × ${memoryMiB} MiB, huge pages: ${hugePages}`;
    const neededBytes = NODES * memoryMiB * 2 ** 20 * ROOM_PER_RAM;
    const { availableBytes } = await measureRoom('/dev/shm');
    if (availableBytes < neededBytes) {
      progress(`${what}: left out, for want of memory`);
      continue;
    }
    progress(what);
    series.push(await seriesOf(kind, runs));
  }
  return series;
}

async function seriesOf(kind: Kind, runs: number): Promise<BackgroundSeries> {
  const { memoryMiB, hugePages } = kind;
  const settings = { round: { capture: 'background', hugePages }, epochs: { keep: 1 } };
  const bed = await Testbed.create({ nodes: NODES, memoryMiB, qemu: await newestQemu(), settings });
  try {
    await bed.up();
    const idleMs = await downtimes(bed, kind, runs);
    const dirty = { sizeMiB: memoryMiB * BUSY_SHARE, rateMiB: BUSY_MIB_PER_SECOND };
    for (let node = 0; node < NODES; node++) await bed.dirty(node, dirty);
    return { ...kind, idleMs, busyMs: await downtimes(bed, kind, runs) };
  } finally {
    await bed.dispose();
  }
}

/** Measures rounds. A VM's first one is not counted: its memory has not been split yet. */
async function downtimes(
  bed: Testbed,
  { memoryMiB, hugePages }: Kind,
  runs: number,
): Promise<number[]> {
  await bed.json<RoundReport>('checkpoint');
  const found: number[] = [];
  const bytes = memoryMiB * 2 ** 20;
  for (let run = 0; run < runs; run++) {
    for (let node = 0; node < NODES; node++) {
      const pid = bed.pid(node);
      await (hugePages === 'auto'
        ? untilHuge(pid, bytes, bytes * NEARLY_ALL)
        : untilSettled(pid, bytes));
    }
    const { members } = await bed.json<RoundReport>('checkpoint');
    found.push(...members.map(({ downtimeMs = Number.NaN }) => downtimeMs));
  }
  return found;
}

export function backgroundFigures(series: readonly BackgroundSeries[]): Record<string, number> {
  const counted = series.filter(({ hugePages }) => hugePages === 'auto');
  const busy = spread(counted.flatMap(({ busyMs }) => busyMs));
  const ratios = counted.map(({ busyMs, idleMs }) => spread(busyMs).median / spread(idleMs).median);
  return {
    background_ms_median: busy.median,
    background_ms_max: busy.max,
    background_busy_over_idle: spread(ratios).median,
  };
}

export function backgroundRows(series: readonly BackgroundSeries[]): Row[] {
  return series.flatMap(({ memoryMiB, hugePages, idleMs, busyMs }) => {
    const what = `own downtime, background, ${NODES} × ${memoryMiB} MiB, huge pages: ${hugePages}`;
    return [
      { what: `${what}, idle`, unit: 'ms', spread: spread(idleMs) },
      { what: `${what}, busy`, unit: 'ms', spread: spread(busyMs) },
    ];
  });
}
