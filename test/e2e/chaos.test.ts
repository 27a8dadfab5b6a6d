/**
 * A few rows of the kill matrix, one of each kind that no other test here covers. `npm run chaos`
 * runs them all. (Rounds: aborts, background. A full store: full. The relay: libvirt-relay.)
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { newestQemu } from '../../tools/testbed/newest-qemu.ts';
import { ChaosBed } from '../chaos/bed.ts';
import { Judge } from '../chaos/judge.ts';
import { allRows } from '../chaos/rows.ts';

const ROWS = [
  'fold (fold), store/fold/renamed: it is killed',
  'persist (disk), persist/shadow/manifest-drafted: all of ours are killed',
] as const;

const test = suite('chaos');
let bed: ChaosBed | undefined;

test.after(() => bed?.dispose());

for (const name of ROWS) {
  test(name, async () => {
    const row = allRows().find((one) => one.name === name);
    if (row === undefined || row.bed === 'libvirt') throw new Error('there is no such row');
    const qemu = await newestQemu();
    if (qemu === undefined) throw new Error('no QEMU found; run: node tools/setup/bootstrap.mjs');
    if (bed?.kind !== row.bed) {
      await bed?.dispose();
      bed = undefined;
      bed = await ChaosBed.start(row.bed, qemu);
    }
    const { colour, why } = await (await Judge.of(bed)).judge(row);
    assert.is(colour, 'green', why);
  });
}

test.run();
