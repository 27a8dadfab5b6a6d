/**
 * Runs the tests: every *.test.ts below test/. The unit tests run three files at a time and many to
 * a process (runner/run-files.ts); the e2e tests run last, one at a time, each in a process of its
 * own. The last line is `N passed, N failed`; a file that reports no tests at all has failed.
 *
 *     npm test                  everything
 *     npm test -- unit          all but e2e
 *     npm test -- e2e rescue    files whose path contains every word
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FileResult, type Outcome, readOutcome } from './runner/outcome.ts';
import { runFiles } from './runner/run-files.ts';

/** One more than the cores of a small machine: many tests wait for a process or a timer. */
const UNIT_AT_ONCE = 3;
/** Limits end only what would never end: a slow machine takes several times as long as this one. */
const UNIT_LIMIT_MS = 15 * 60_000;
const E2E_LIMIT_MS = 120 * 60_000;
/**
 * Begun first: begun last, one would run on while the other process has nothing to do. The fuzzed
 * inputs come before all others, as the memory they take is told best in a process that has not
 * had much yet.
 */
const LONGEST = [
  'fuzz/fuzz.test.ts',
  'shadow/durable/power-cut.test.ts',
  'tools/sim/comparison.test.ts',
  'shadow/power-cut.test.ts',
  'tools/sim/faults/faults.test.ts',
  'shadow/durable/durable-store.test.ts',
];

const folder = fileURLToPath(new URL('.', import.meta.url));
const words = process.argv.slice(2);

const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.ts'))
  .filter((file) => words.every((word) => (word === 'unit' ? !isE2e(file) : file.includes(word))))
  .sort();

const unit = files.filter((file) => !isE2e(file));
const first = LONGEST.filter((file) => unit.includes(file));
const paths = [...new Set([...first, ...unit])].map((file) => join(folder, file));
const results = await runFiles(paths, {
  processes: UNIT_AT_ONCE,
  limitMs: UNIT_LIMIT_MS,
  onResult: (path, result, tookMs) => {
    print(path, result, tookMs);
    if (result.outcome.failed > 0) process.stdout.write(`${result.output}\n`);
  },
});
for (const file of files.filter(isE2e)) results.push(await runE2e(join(folder, file)));

const total = (key: keyof Outcome) => results.reduce((sum, { outcome }) => sum + outcome[key], 0);
const skipped = total('skipped');
if (skipped > 0) process.stdout.write(`${skipped} skipped: they do not count as passed\n`);
process.stdout.write(`${total('passed')} passed, ${total('failed')} failed\n`);
process.exitCode = total('failed') === 0 && total('passed') > 0 && skipped === 0 ? 0 : 1;

function isE2e(file: string): boolean {
  return file.startsWith('e2e/');
}

function print(path: string, { outcome, why }: FileResult, tookMs: number): void {
  const { passed, failed } = outcome;
  const mark = failed === 0 ? 'ok  ' : 'FAIL';
  const seconds = (tookMs / 1000).toFixed(1);
  const note = why === undefined ? '' : ` (${why})`;
  process.stdout.write(`${mark} ${relative('.', path)}: ${passed} in ${seconds} s${note}\n`);
}

/** Prints the output of the file as it comes. */
async function runE2e(path: string): Promise<FileResult> {
  const startedAt = performance.now();
  // Its own process group: whatever a test that is killed leaves behind goes with it.
  const child = spawn(process.execPath, ['--import', 'tsx/esm', path], {
    detached: true,
    env: { ...process.env, FORCE_COLOR: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output += text;
      process.stdout.write(text);
    });
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }, E2E_LIMIT_MS);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  const why = late ? `stopped after ${E2E_LIMIT_MS / 1000} s` : undefined;
  const result = { outcome: readOutcome(output, code), output, why };
  print(path, result, performance.now() - startedAt);
  return result;
}
