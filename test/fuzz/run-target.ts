/**
 * One target, in a process of its own: what kills or hangs it is known by the file it leaves.
 *
 *     node --import tsx run-target.ts NAME SEED SECONDS CURRENT     told to by main.ts, over IPC
 */
import { writeFileSync } from 'node:fs';
import { fuzz } from './campaign.ts';
import { saveFailure, seedsOf } from './corpus.ts';
import { Coverage } from './coverage.ts';
import { shrink } from './shrink.ts';
import { loadTarget } from './targets.ts';

/** How one target has fared. */
export interface TargetResult {
  readonly runs: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** Of its code, what was run. */
  readonly coverage: number;
  readonly pool: number;
  readonly failure?: { readonly message: string; readonly file: string };
}

const [name = '', seed = '1', seconds = '0', current = ''] = process.argv.slice(2);
// Of the code, blocks are counted only in what is compiled from here on.
const coverage = new Coverage();
const target = await loadTarget(name);
coverage.watch(target.covers);
const until = performance.now() + Number(seconds) * 1000;
const { runs, outcomes, pool, finding } = await fuzz(
  target,
  seedsOf(name).map(({ input }) => input),
  {
    seed: Number(seed),
    goesOn: () => performance.now() < until,
    coverage,
    onInput: (input) => writeFileSync(current, input),
  },
);
const result: TargetResult = {
  runs,
  outcomes: Object.fromEntries(outcomes),
  coverage: coverage.share,
  pool,
  ...(finding !== undefined && {
    failure: {
      message: finding.error.stack ?? finding.error.message,
      file: saveFailure(name, await shrink(target, finding)),
    },
  }),
};
process.send?.(result, () => process.exit());
