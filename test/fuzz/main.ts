/**
 * The fuzzers: `npm run fuzz -- [--target NAME] [--seconds N] [--seed S]`, N shared by all targets.
 *
 *     npm run fuzz -- --target NAME --input FILE      one input again, with its error in full
 *
 * Each target runs in a process of its own. Prints one line for each target. Exits with 1 if an
 * error was found, after saving the input that shows it and printing the command that tries it
 * again.
 */
import { fork } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { scratchFolder } from '../support/scratch.ts';
import { saveFailure } from './corpus.ts';
import { Judge } from './judge.ts';
import type { TargetResult } from './run-target.ts';
import { loadTarget, TARGET_NAMES } from './targets.ts';

const SECONDS = 60;
/** Additional time for a target to load and to end its last input, on a busy machine. */
const PATIENCE_MS = 60_000;
/** Limit of the heap: an input that takes more ends the process, and so is found. */
const HEAP_MIB = 1024;

interface Options {
  readonly target: readonly string[];
  readonly seconds: number;
  readonly seed: number;
  readonly input?: string;
  readonly verbose?: boolean;
}

const values = new Command('npm run fuzz --')
  .addOption(
    new Option('--target <names...>', `of ${TARGET_NAMES.join(', ')}`).default(TARGET_NAMES, 'all'),
  )
  .option('--seconds <n>', 'for all targets together', numberOf, SECONDS)
  .option('--seed <n>', 'chooses the inputs', numberOf, 1)
  .option('--input <file>', 'one input again, with its error in full')
  .option('--verbose', 'print the number of inputs by outcome')
  .parse()
  .opts<Options>();

if (values.input !== undefined) await replay(values.target[0] ?? '', values.input);
else await run(values.target, values.seconds, values.seed);
process.exit();

function numberOf(text: string): number {
  const number = Number(text);
  if (text.trim() !== '' && number >= 0) return number;
  throw new InvalidArgumentError('It takes a number, from 0.');
}

async function run(names: readonly string[], seconds: number, seed: number): Promise<void> {
  const width = Math.max(...names.map((name) => name.length));
  for (const name of names) {
    const result = await runTarget(name, seed, seconds / names.length);
    const { runs, coverage, outcomes, pool, failure } = result;
    const kinds = Object.keys(outcomes).length;
    process.stdout.write(
      `${name.padEnd(width)}  ${String(runs).padStart(8)} runs  ` +
        `${(coverage * 100).toFixed(1).padStart(5)} % of its code  ` +
        `${String(kinds).padStart(3)} outcomes  ${String(pool).padStart(4)} in the pool  ` +
        `${failure === undefined ? 0 : 1} failures\n`,
    );
    if (values.verbose) process.stdout.write(`${JSON.stringify(outcomes, undefined, 1)}\n`);
    if (failure === undefined) continue;
    process.exitCode = 1;
    process.stdout.write(
      `${failure.message}\n  saved: ${failure.file} (seed ${seed})\n` +
        `  again: npm run fuzz -- --target ${name} --input ${failure.file}\n`,
    );
  }
}

async function runTarget(name: string, seed: number, seconds: number): Promise<TargetResult> {
  const scratch = mkdtempSync(join(scratchFolder(), 'umbra-fuzz-'));
  const current = join(scratch, 'current');
  try {
    const entry = fileURLToPath(new URL('run-target.ts', import.meta.url));
    const child = fork(entry, [name, String(seed), String(seconds), current], {
      execArgv: [...process.execArgv, `--max-old-space-size=${HEAP_MIB}`],
      env: { ...process.env, TMPDIR: scratch },
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000 + PATIENCE_MS);
    let result: TargetResult | undefined;
    child.once('message', (told) => {
      result = told as TargetResult;
    });
    const how = await new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ?? `status ${code}`));
    });
    clearTimeout(timer);
    if (result !== undefined) return result;
    const input = existsSync(current) ? readFileSync(current) : Buffer.alloc(0);
    const file = saveFailure(name, input);
    const failure = {
      message: `its process ended: ${how} (SIGKILL: too slow; 13: waits for ever)`,
      file,
    };
    return { runs: 0, coverage: 0, outcomes: {}, pool: 0, failure };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function replay(name: string, file: string): Promise<void> {
  const judge = new Judge(await loadTarget(name), undefined);
  const error = await judge.judge(readFileSync(file));
  if (error !== undefined) process.exitCode = 1;
  const [outcome] = judge.outcomes.keys();
  process.stdout.write(`${error === undefined ? outcome : (error.stack ?? error.message)}\n`);
}
