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
import { PERSISTING_STATE_NAMES } from '../../../proxy/coordinator/durable/persisting-state.ts';
import { ARGUED, inertCells } from './cells.ts';
import { Coverage } from './coverage.ts';
import { PERSIST_BROKEN, type PersistBroken } from './persist-plan.ts';
import { type PersistShareResult, shrinkPersist, workPersist } from './persist-work.ts';
import { runPersist } from './persist-world.ts';
import { shrink } from './shrink.ts';
import { BROKEN, type Broken, DEADLINE_MS } from './terms.ts';
import { type ShareResult, work } from './work.ts';
import { run } from './world.ts';

/** Seeds of one process begin so far from the next one's. */
const STRIDE = 10_000_000;
const SHOWN = 10;
/** A round of the persister's stories takes as long as so many others. */
const PERSIST_SHARE = 0.2;
const ALL_BROKEN = [...BROKEN, ...PERSIST_BROKEN] as const;
type AnyBroken = Broken | PersistBroken;

interface BothShare {
  readonly firstSeed: number;
  readonly rounds: number;
  readonly broken: AnyBroken | undefined;
}

interface BothResults {
  readonly protocol: ShareResult;
  readonly persister: PersistShareResult;
}

interface Options {
  readonly rounds: string;
  readonly first: string;
  readonly seed?: string;
  readonly break?: AnyBroken;
  readonly cells?: boolean;
  readonly json?: boolean;
}

if (process.send !== undefined) {
  process.once('message', ({ firstSeed, rounds, broken }: BothShare) => {
    const results: BothResults = {
      protocol: work({ firstSeed, rounds, broken: ofProtocol(broken) }),
      persister: workPersist({
        firstSeed,
        rounds: rounds * PERSIST_SHARE,
        broken: ofPersister(broken),
      }),
    };
    process.send?.(results, () => process.disconnect());
  });
} else {
  const program = new Command('sim')
    .option('--rounds <n>', 'rounds to run', '10000')
    .option('--first <seed>', 'first seed', '1')
    .option('--seed <seed>', 'tell the story of one seed')
    .addOption(new Option('--break <what>', 'break something on purpose').choices(ALL_BROKEN))
    .option('--cells', 'list the cells that were not reached')
    .option('--json', 'end with one line of JSON')
    .parse();
  const options = program.opts<Options>();
  process.exitCode =
    options.seed === undefined ? await runAll(options) : tellOne(Number(options.seed), options);
}

async function runAll({ rounds, first, break: broken, cells, json }: Options): Promise<number> {
  const startedAt = performance.now();
  const shares = Array.from({ length: availableParallelism() }, (_, index): BothShare => {
    const share = Math.ceil(Number(rounds) / availableParallelism());
    return { firstSeed: Number(first) + index * STRIDE, rounds: share, broken };
  });
  const both = await Promise.all(shares.map(inProcess));
  const results = both.map(({ protocol }) => protocol);
  const persisted = both.map(({ persister }) => persister);
  const coverage = new Coverage();
  for (const result of results) coverage.add(result.cells);
  const ofRounds = results.flatMap((result) => result.violations);
  const ofDisk = persisted.flatMap((result) => result.violations);
  const violations = [...ofRounds, ...ofDisk];
  const total = (key: 'rounds' | 'committed', of: readonly PersistShareResult[] | typeof results) =>
    of.reduce((sum, one) => sum + one[key], 0);
  const seconds = (performance.now() - startedAt) / 1000;
  const seeds = results
    .map(({ lastSeed }, at) => `${shares[at]?.firstSeed}..${lastSeed}`)
    .join(', ');
  for (const { seed, what } of violations.slice(0, SHOWN)) say(`seed ${seed}: ${what}`);
  if (violations.length > SHOWN) say(`and ${violations.length - SHOWN} more`);
  const [roundsRun, committed] = [total('rounds', results), total('committed', results)];
  say(`${roundsRun} rounds, ${committed} committed, seeds ${seeds}`);
  const [persistRounds, onDisk] = [total('rounds', persisted), total('committed', persisted)];
  say(`${persistRounds} rounds with a disk, ${onDisk} committed, the same first seeds`);
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
      rounds: roundsRun,
      persist_rounds: persistRounds,
      violations: violations.length,
      seconds: Number(seconds.toFixed(1)),
      cells_reached: coverage.reached,
      cells_total: coverage.total,
    };
    process.stdout.write(`${JSON.stringify(figures)}\n`);
  }
  return violations.length === 0 ? 0 : 1;
}

function tellOne(seed: number, options: Options): number {
  const kept = [tellProtocol(seed, ofProtocol(options.break)), tellPersister(seed, options.break)];
  return kept.every(Boolean) ? 0 : 1;
}

/** Prints a failed run of the persister, shortened. @returns true if all promises are kept */
function tellPersister(seed: number, any: AnyBroken | undefined): boolean {
  const broken = ofPersister(any);
  const { plan, violations } = runPersist({ seed, broken });
  const short = violations.length > 0 ? shrinkPersist(seed, plan, broken) : plan;
  const outcome = runPersist({ seed, plan: short, broken, tell: true });
  say(`\nseed ${seed}, epochs on disk: ${short.beforeCommit ? 'before commit' : 'background'}`);
  say(`${short.faults.length} of ${plan.faults.length} faults are enough:`);
  for (const { kind, atMs, inState, ms } of short.faults) {
    const then = inState === undefined ? '' : `, when ${PERSISTING_STATE_NAMES[inState]}`;
    say(`  from ${atMs.toFixed(1)} ms${then}: ${kind} (${ms.toFixed(0)} ms)`);
  }
  for (const line of outcome.story) say(line);
  for (const what of outcome.violations) say(`BROKEN ${what}`);
  return outcome.violations.length === 0;
}

function ofProtocol(broken: AnyBroken | undefined): Broken | undefined {
  return BROKEN.find((one) => one === broken);
}

function ofPersister(broken: AnyBroken | undefined): PersistBroken | undefined {
  return PERSIST_BROKEN.find((one) => one === broken);
}

/** Prints a failed run of the protocol, shortened. @returns true if all promises are kept */
function tellProtocol(seed: number, broken: Broken | undefined): boolean {
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
  return outcome.violations.length === 0;
}

function inProcess(share: BothShare): Promise<BothResults> {
  const child = fork(fileURLToPath(import.meta.url), [], { execArgv: process.execArgv });
  child.send(share);
  return new Promise((resolve, reject) => {
    child.once('message', (result: BothResults) => resolve(result));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`a simulating process ended: status ${code}`)));
  });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
