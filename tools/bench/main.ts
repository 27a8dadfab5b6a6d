/**
 *     npm run bench -- NAME [--json] [--runs N] [--out FOLDER]
 *
 * Each benchmark measures its baseline in the same run. With --json the last line is {"bench":
 * NAME, "figures": {…}, "environment": {…}}. With --out, a folder gets NAME.json with every row,
 * and the benchmark's plots.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Argument, Command, InvalidArgumentError } from 'commander';
import { table } from '../cli/output.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { type Benchmark, type BenchOptions, environment } from './bench.ts';
import { benchCapture } from './capture.ts';
import { benchDowntime } from './downtime.ts';
import { benchMemory } from './memory.ts';
import { benchPersist } from './persist.ts';
import { benchProve } from './prove.ts';
import { benchRelay } from './relay.ts';
import { benchRescue } from './rescue.ts';
import { benchRestore } from './restore.ts';
import { benchScale } from './scale.ts';
import { benchTracked } from './tracked.ts';

const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  capture: benchCapture,
  downtime: benchDowntime,
  memory: benchMemory,
  persist: benchPersist,
  prove: benchProve,
  relay: benchRelay,
  rescue: benchRescue,
  restore: benchRestore,
  scale: benchScale,
  tracked: benchTracked,
};

interface Options extends BenchOptions {
  readonly json?: boolean;
}

const command = new Command('npm run bench --')
  .addArgument(new Argument('<name>', 'what is measured').choices(Object.keys(BENCHMARKS)))
  .option('--json', 'no table: one line of JSON')
  .option('--runs <n>', 'repetitions; each benchmark has its own number', countOf)
  .option('--out <folder>', 'keep every row there, and plots')
  .parse();
const [name = ''] = command.args;
const values = command.opts<Options>();
const benchmark = BENCHMARKS[name];
if (benchmark === undefined) throw new Error(`no benchmark ${name}`);
const progress = (line: string) => process.stderr.write(`${name}: ${line}\n`);
const { figures, rows } = await benchmark(progress, values);
const qemu = (await newestQemu())?.version ?? 'none';
const measured = { bench: name, figures, environment: { ...environment(), qemu } };
if (values.out !== undefined) {
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, `${name}.json`), JSON.stringify({ ...measured, rows }, null, 2));
}
if (values.json !== true) {
  const cells = rows.map(({ what, unit, spread: { median, min, max, runs } }) => [
    what,
    format(median),
    `${format(min)} … ${format(max)}`,
    unit,
    String(runs),
  ]);
  process.stdout.write(`${table(['FIGURE', 'MEDIAN', 'RANGE', 'UNIT', 'RUNS'], cells)}\n\n`);
}
process.stdout.write(`${JSON.stringify(measured)}\n`);

function countOf(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0) return count;
  throw new InvalidArgumentError('It takes a whole number, from 1.');
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(3);
}
