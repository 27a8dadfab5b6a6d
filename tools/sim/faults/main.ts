/**
 * The protocol under faults, in virtual time:
 *
 *     npm run sim -- --rounds 100000          so many rounds, on all cores
 *     npm run sim -- --seed 4711              one seed and its story; shrunk if it breaks a promise
 *     npm run sim -- --rounds 1000 --break barrier     with something broken on purpose
 *     npm run sim -- --cells                  also the cells in which nothing happens
 *     npm run --silent sim -- --rounds N --json        ends with one line of JSON
 */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { ARGUED, inertCells } from './cells.ts';
import { Coverage } from './coverage.ts';
import { shrink } from './shrink.ts';
import { BROKEN, type Broken, DEADLINE_MS } from './terms.ts';
import { type Share, type ShareResult, work } from './work.ts';
import { run } from './world.ts';

/** Seeds of one process begin so far from the next one's. */
const STRIDE = 10_000_000;
const SHOWN = 10;

interface Options {
  readonly rounds: string;
  readonly first: string;
  readonly seed?: string;
  readonly break?: Broken;
  readonly cells?: boolean;
  readonly json?: boolean;
}

if (process.send !== undefined) {
  process.once('message', (share: Share) => {
    process.send?.(work(share), () => process.disconnect());
  });
} else {
  const program = new Command('sim')
    .option('--rounds <n>', 'rounds to run', '10000')
    .option('--first <seed>', 'first seed', '1')
    .option('--seed <seed>', 'tell the story of one seed')
    .addOption(new Option('--break <what>', 'break something on purpose').choices(BROKEN))
    .option('--cells', 'list the cells that were not reached')
    .option('--json', 'end with one line of JSON')
    .parse();
  const options = program.opts<Options>();
  process.exitCode =
    options.seed === undefined ? await runAll(options) : tellOne(Number(options.seed), options);
}

async function runAll({ rounds, first, break: broken, cells, json }: Options): Promise<number> {
  const startedAt = performance.now();
  const shares = Array.from({ length: availableParallelism() }, (_, index): Share => {
    const share = Math.ceil(Number(rounds) / availableParallelism());
    return { firstSeed: Number(first) + index * STRIDE, rounds: share, broken };
  });
  const results = await Promise.all(shares.map(inProcess));
  const coverage = new Coverage();
  for (const result of results) coverage.add(result.cells);
  const violations = results.flatMap((result) => result.violations);
  const total = (key: 'rounds' | 'committed') => results.reduce((sum, one) => sum + one[key], 0);
  const seconds = (performance.now() - startedAt) / 1000;
  const seeds = results
    .map(({ lastSeed }, at) => `${shares[at]?.firstSeed}..${lastSeed}`)
    .join(', ');
  for (const { seed, what } of violations.slice(0, SHOWN)) say(`seed ${seed}: ${what}`);
  if (violations.length > SHOWN) say(`and ${violations.length - SHOWN} more`);
  say(`${total('rounds')} rounds, ${total('committed')} committed, seeds ${seeds}`);
  say(`${violations.length} violations in ${seconds.toFixed(1)} s`);
  const longestMs = Math.max(...results.map(({ longestStandMs }) => longestStandMs));
  say(
    `no guest was stopped for longer than ${longestMs.toFixed(0)} of ${DEADLINE_MS} ms, ` +
      `but by its own proxy's fault`,
  );
  const inert = inertCells(coverage.missed);
  const open = coverage.missed.filter((cell) => !inert.has(cell));
  say(
    `${coverage.reached} of ${coverage.total} cells of the state tables reached; ` +
      `in ${inert.size} nothing happens, whatever the phases; ${open.length} are left`,
  );
  for (const cell of open) say(`  ${cell}: ${ARGUED[cell] ?? 'NOT ARGUED'}`);
  if (cells === true) for (const cell of inert) say(`  nothing happens: ${cell}`);
  if (violations[0] !== undefined) {
    const again = broken === undefined ? '' : ` --break ${broken}`;
    say(`Again, in words: npm run sim -- --seed ${violations[0].seed}${again}`);
  }
  if (json === true) {
    const figures = {
      rounds: total('rounds'),
      violations: violations.length,
      seconds: Number(seconds.toFixed(1)),
      cells_reached: coverage.reached,
      cells_total: coverage.total,
    };
    process.stdout.write(`${JSON.stringify(figures)}\n`);
  }
  return violations.length === 0 ? 0 : 1;
}

function tellOne(seed: number, { break: broken }: Options): number {
  const { plan, violations } = run({ seed, broken });
  const short = violations.length > 0 ? shrink(seed, plan, broken) : plan;
  const outcome = run({ seed, plan: short, broken, tell: true });
  const network = short.unreliable ? 'an unreliable network' : 'links in order';
  say(
    `seed ${seed}: ${short.capture.join(', ')}; ${network}` +
      (short.durable ? '; on disk first' : ''),
  );
  say(`${short.faults.length} of ${plan.faults.length} faults are enough:`);
  for (const { kind, atMs, afterStopMs, member, ms } of short.faults) {
    const then =
      afterStopMs === undefined ? '' : `, ${afterStopMs.toFixed(1)} ms after it has stopped`;
    say(`  from ${atMs.toFixed(1)} ms${then}: ${kind} n${member} (${ms.toFixed(0)} ms)`);
  }
  for (const line of outcome.story) say(line);
  for (const what of outcome.violations) say(`BROKEN ${what}`);
  return outcome.violations.length === 0 ? 0 : 1;
}

function inProcess(share: Share): Promise<ShareResult> {
  const child = fork(fileURLToPath(import.meta.url), [], { execArgv: process.execArgv });
  child.send(share);
  return new Promise((resolve, reject) => {
    child.once('message', (result: ShareResult) => resolve(result));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`a simulating process ended: status ${code}`)));
  });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
