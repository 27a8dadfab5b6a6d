/**
 *     npm run bench -- NAME [--json]
 *
 * Each benchmark measures its baseline in the same run. With --json the last line is
 * {"bench": NAME, "figures": {…}, "environment": {…}}.
 */
import { parseArgs } from 'node:util';
import { table } from '../cli/output.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { type Benchmark, environment } from './bench.ts';
import { benchRescue } from './rescue.ts';

const BENCHMARKS: Readonly<Record<string, Benchmark>> = { rescue: benchRescue };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false } },
});
const [name = ''] = positionals;
const benchmark = BENCHMARKS[name];
if (benchmark === undefined) {
  process.stderr.write(`usage: npm run bench -- NAME [--json]\n`);
  process.stderr.write(`benchmarks: ${Object.keys(BENCHMARKS).join(', ')}\n`);
  process.exit(2);
}
const { figures, rows } = await benchmark((line) => process.stderr.write(`${name}: ${line}\n`));
const qemu = (await newestQemu())?.version ?? 'none';
const measured = { bench: name, figures, environment: { ...environment(), qemu } };
if (!values.json) {
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

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(3);
}
