/**
 * Tries random VMs: `npm run shapes -- [--count N] [--seed S] [--qemu VERSION] [--results FILE]`.
 *
 * Each shape is drawn from the seed and its number, so a run is taken up where it was left: what is
 * in the results (a line of JSON a shape) is not tried again. Exits with 1 if a fault was found.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { Command } from 'commander';
import { findQemus } from '../../../tools/qemu/qemu.ts';
import { Random } from '../../../tools/sim/random.ts';
import { allChoices, drawShape } from './grammar.ts';
import { type Tried, tryShape } from './try-shape.ts';

interface Result extends Tried {
  readonly number: number;
  readonly choices: readonly string[];
}

const options = new Command('npm run shapes --')
  .option('--count <n>', 'how many shapes', Number, 20)
  .option('--seed <n>', 'chooses them', Number, 1)
  .option('--only <n>', 'one of them, again', Number)
  .option('--qemu <version>', 'the beginning of a version; the newest if left out')
  .option('--why', 'shows of each refused VM what would have happened', false)
  .option('--results <file>', 'where results are kept, and taken up')
  .parse()
  .opts<{
    count: number;
    seed: number;
    only?: number;
    qemu?: string;
    results?: string;
    why: boolean;
  }>();

const qemus = await findQemus();
const qemu = qemus.find(({ version }) => version.startsWith(options.qemu ?? '')) ?? qemus.at(-1);
if (qemu === undefined) throw new Error('no QEMU found');
const results = new Map<number, Result>();
if (options.results !== undefined && existsSync(options.results)) {
  for (const line of readFileSync(options.results, 'utf8').trim().split('\n')) {
    const result = JSON.parse(line) as Result;
    results.set(result.number, result);
  }
}
const numbers = Array.from({ length: options.count }, (_, index) => index + 1);
for (const number of options.only === undefined ? numbers : [options.only]) {
  if (results.has(number)) continue;
  const drawn = drawShape(new Random(options.seed * 100_003 + number));
  const result = { number, choices: drawn.choices, ...(await tryShape(drawn, qemu, options.why)) };
  results.set(number, result);
  if (options.results !== undefined) {
    appendFileSync(options.results, `${JSON.stringify(result)}\n`);
  }
  if (result.outcome !== 'fault' && options.only === undefined) continue;
  const { choices, what, message } = result;
  process.stdout.write(`${number}: ${what}: ${message}\n  ${choices.join(' ')}\n`);
}
summarize([...results.values()]);
process.exit();

function summarize(all: readonly Result[]): void {
  const counts = new Map<string, number>();
  for (const { outcome, what } of all) {
    const key = outcome === 'fault' || what === '' ? outcome : `${outcome} ${what}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const [key, count] of counts) process.stdout.write(`${key}: ${count}\n`);
  const without = all.filter((result) => result.without !== undefined);
  for (const { number, what, message, without: end } of without) {
    process.stdout.write(`${number} ${what} (${message})\n  without the refusal: ${end}\n`);
  }
  const vms = all.filter(({ outcome }) => outcome !== 'no VM');
  const least = allChoices()
    .map((name) => [name, vms.filter(({ choices }) => choices.includes(name)).length] as const)
    .sort(([, one], [, two]) => one - two)
    .slice(0, 5);
  const words = least.map(([name, count]) => `${name} ${count}`).join(', ');
  process.stdout.write(`QEMU ${qemu?.version}: ${vms.length} VMs; tried least: ${words}\n`);
  if (all.some(({ outcome }) => outcome === 'fault')) process.exitCode = 1;
}
