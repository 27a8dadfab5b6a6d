/**
 * Fuzzes one target in a process of its own. The file CURRENT holds the input under test, and so
 * shows which one has killed or hung the process.
 *
 *     node --import tsx run-target.ts NAME SEED SECONDS CURRENT     started by main.ts, over IPC
 */
import { ftruncateSync, openSync, writeSync } from 'node:fs';
import { fuzz } from './campaign.ts';
import { saveFailure, seedsOf } from './corpus.ts';
import { Coverage } from './coverage.ts';
import { shrink } from './shrink.ts';
import { loadTarget } from './targets.ts';

/** Result of fuzzing one target. */
export interface TargetResult {
  readonly runs: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** Share of the target's code that was run. */
  readonly coverage: number;
  readonly pool: number;
  readonly failure?: { readonly message: string; readonly file: string };
}

const [name = '', seed = '1', seconds = '0', current = ''] = process.argv.slice(2);
// V8 counts blocks only in code that is compiled from here on.
const coverage = new Coverage();
const target = await loadTarget(name);
coverage.watch(target.covers);
// Open all the time: to open it for each input would take longer than most inputs.
const currentFd = openSync(current, 'w');
const until = performance.now() + Number(seconds) * 1000;
const { runs, outcomes, pool, finding } = await fuzz(
  target,
  seedsOf(name).map(({ input }) => input),
  {
    seed: Number(seed),
    goesOn: () => performance.now() < until,
    coverage,
    onInput: (input) => {
      ftruncateSync(currentFd, input.length);
      for (let at = 0; at < input.length; ) {
        at += writeSync(currentFd, input, at, input.length - at, at);
      }
    },
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
