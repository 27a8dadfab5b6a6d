/**
 * Measures the memory that a second epoch adds to the first, beside the memory that has changed:
 *
 *     own        blocks of all files in its folder, by the kernel's count
 *     changed    pages that differ, counted by comparing both epochs' memory
 *
 *     second_epoch_vs_changed    (own − 1 % of RAM) ÷ changed, of the worst load
 */
import { join } from 'node:path';
import { clusterFolder } from '../../proxy/host/folders.ts';
import type { RoundReport } from '../../proxy/protocol/report.ts';
import {
  Catalogue,
  occupiedBytes,
  openShadow,
  SealedRam,
  type SealedShadow,
} from '../../shadow/index.ts';
import type { DirtyOptions } from '../testbed/dirty.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { BenchOptions, Measurement, Row } from './bench.ts';
import { spread } from './statistics.ts';

const RUNS = 3;
const GUEST_MIB = 1024;
const LOADS: Readonly<Record<string, DirtyOptions | undefined>> = {
  idle: undefined,
  'small working set': { sizeMiB: 64, rateMiB: 60, pattern: 'random' },
  'large working set': { sizeMiB: 512, rateMiB: 40 },
};

interface Second {
  readonly ownBytes: number;
  readonly changedBytes: number;
  readonly ramBytes: number;
}

export async function benchMemory(
  progress: (line: string) => void,
  { runs = RUNS }: BenchOptions,
): Promise<Measurement> {
  const rows: Row[] = [];
  let worst = 0;
  for (const [load, dirty] of Object.entries(LOADS)) {
    progress(load);
    const seconds = await measure(dirty, runs);
    const ratio = spread(seconds.map(surplus));
    const mebibytes = (what: string, value: (one: Second) => number): Row => {
      return { what, unit: 'MiB', spread: spread(seconds.map((one) => value(one) / 2 ** 20)) };
    };
    rows.push(
      mebibytes(`changed, ${load}`, ({ changedBytes }) => changedBytes),
      mebibytes(`second epoch’s own, ${load}`, ({ ownBytes }) => ownBytes),
      { what: `(own − 1 % of RAM) ÷ changed, ${load}`, unit: '', spread: ratio },
    );
    worst = Math.max(worst, ratio.median);
  }
  return { figures: { second_epoch_vs_changed: worst }, rows };
}

function surplus({ ownBytes, changedBytes, ramBytes }: Second): number {
  return (ownBytes - ramBytes / 100) / changedBytes;
}

async function measure(dirty: DirtyOptions | undefined, runs: number): Promise<Second[]> {
  const options = { nodes: 1, memoryMiB: GUEST_MIB, qemu: await newestQemu() };
  const bed = await Testbed.create({ ...options, settings: { store: { foldAt: 100 } } });
  try {
    await bed.up();
    if (dirty !== undefined) await bed.dirty(0, dirty);
    await bed.json('checkpoint');
    const seconds: Second[] = [];
    for (let run = 0; run < runs; run++) {
      const { epoch = 0 } = await bed.json<RoundReport>('checkpoint');
      seconds.push(await compare(bed, epoch));
    }
    return seconds;
  } finally {
    await bed.dispose();
  }
}

/** Compares an epoch with the one it is a delta of. */
async function compare(bed: Testbed, epoch: number): Promise<Second> {
  const shadows = clusterFolder(bed.directory, 'shadows');
  const catalogue = new Catalogue(clusterFolder(bed.directory, 'epochs'), 'demo');
  const { round, members } = await catalogue.read(epoch);
  const directory = join(shadows, round, members[0]?.name ?? '');
  const shadow = await openShadow(directory, members[0]?.shadow);
  if (shadow.base === undefined) throw new Error(`epoch ${epoch} is no delta`);
  const { pageSize, blocks } = shadow.manifest;
  return {
    ownBytes: await occupiedBytes(join(shadows, round)),
    changedBytes: (await changedPages(shadow, shadow.base)) * pageSize,
    ramBytes: blocks.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

async function changedPages(a: SealedShadow, b: SealedShadow): Promise<number> {
  const [ours, theirs] = [await SealedRam.open(a), await SealedRam.open(b)];
  const { pageSize, blocks } = a.manifest;
  const [one, other] = [Buffer.alloc(pageSize), Buffer.alloc(pageSize)];
  let changed = 0;
  for (const [block, { bytes }] of blocks.entries()) {
    for (let offset = 0; offset < bytes; offset += pageSize) {
      const held = [ours.read(block, offset, one, 0), theirs.read(block, offset, other, 0)];
      if (held[0] !== held[1] || (held[0] && !one.equals(other))) changed++;
    }
  }
  ours.close();
  theirs.close();
  return changed;
}
