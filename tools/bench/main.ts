/**
 *     npm run bench -- NAME [--json] [--runs N] [--out FOLDER]
 *
 * Each benchmark measures its baseline in the same run. With --json the last line is
 * {"bench": NAME, "figures": {…}, "environment": {…}}. With --out, all of it goes into a folder, too:
 * NAME.json with every row, and plots where the benchmark draws some.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { table } from '../cli/output.ts';
import { newestQemu } from '../testbed/newest-qemu.ts';
import { type Benchmark, environment } from './bench.ts';
import { benchCapture } from './capture.ts';
import { benchDowntime } from './downtime.ts';
import { benchMemory } from './memory.ts';
import { benchPersist } from './persist.ts';
import { benchRelay } from './relay.ts';
import { benchRescue } from './rescue.ts';
import { benchRestore } from './restore.ts';
import { benchScale } from './scale.ts';

const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  capture: benchCapture,
  downtime: benchDowntime,
  memory: benchMemory,
  persist: benchPersist,
  relay: benchRelay,
  rescue: benchRescue,
  restore: benchRestore,
  scale: benchScale,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    runs: { type: 'string' },
    out: { type: 'string' },
  },
});
const [name = ''] = positionals;
const benchmark = BENCHMARKS[name];
if (benchmark === undefined) {
  process.stderr.write(`usage: npm run bench -- NAME [--json] [--runs N] [--out FOLDER]\n`);
  process.stderr.write(`benchmarks: ${Object.keys(BENCHMARKS).join(', ')}\n`);
  process.exit(2);
}
const progress = (line: string) => process.stderr.write(`${name}: ${line}\n`);
const { figures, rows } = await benchmark(progress, { out: values.out, runs: runs() });
const qemu = (await newestQemu())?.version ?? 'none';
const measured = { bench: name, figures, environment: { ...environment(), qemu } };
if (values.out !== undefined) {
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, `${name}.json`), JSON.stringify({ ...measured, rows }, null, 2));
}
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

function runs(): number | undefined {
  if (values.runs === undefined) return undefined;
  const count = Number(values.runs);
  if (Number.isInteger(count) && count > 0) return count;
  process.stderr.write(`--runs takes a whole number, from 1; found ${values.runs}\n`);
  process.exit(2);
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(3);
}
