/**
 * Runs the tests: every *.test.ts below test/, each in a process of its own, e2e last and one at a
 * time. The last line is `N passed, N failed`; a file that reports no tests at all has failed.
 *
 *     npm test                  everything
 *     npm test -- unit          all but e2e
 *     npm test -- e2e rescue    files whose path contains every word
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import pLimit from 'p-limit';

const UNIT_AT_ONCE = 2;
const UNIT_LIMIT_MS = 120_000;
const E2E_LIMIT_MS = 30 * 60_000;

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const folder = fileURLToPath(new URL('.', import.meta.url));
const words = process.argv.slice(2);

const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.ts'))
  .filter((file) => words.every((word) => (word === 'unit' ? !isE2e(file) : file.includes(word))))
  .sort();

const limit = pLimit(UNIT_AT_ONCE);
const unit = files.filter((file) => !isE2e(file)).map((file) => limit(() => run(file)));
const outcomes = await Promise.all(unit);
for (const file of files.filter(isE2e)) outcomes.push(await run(file));

const total = (key: keyof Outcome) => outcomes.reduce((sum, outcome) => sum + outcome[key], 0);
const skipped = total('skipped');
if (skipped > 0) process.stdout.write(`${skipped} skipped: they do not count as passed\n`);
process.stdout.write(`${total('passed')} passed, ${total('failed')} failed\n`);
process.exitCode = total('failed') === 0 && total('passed') > 0 && skipped === 0 ? 0 : 1;

function isE2e(file: string): boolean {
  return file.startsWith('e2e/');
}

async function run(file: string): Promise<Outcome> {
  const startedAt = performance.now();
  const limitMs = isE2e(file) ? E2E_LIMIT_MS : UNIT_LIMIT_MS;
  // Its own process group: whatever a test that is killed leaves behind goes with it.
  const child = spawn(process.execPath, ['--import', 'tsx/esm', join(folder, file)], {
    detached: true,
    env: { ...process.env, FORCE_COLOR: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output += text;
      if (isE2e(file)) process.stdout.write(text);
    });
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }, limitMs);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  const outcome = read(output, code);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const { passed, failed } = outcome;
  const name = relative('.', join(folder, file));
  const why = late ? ` (stopped after ${limitMs / 1000} s)` : '';
  process.stdout.write(
    `${failed === 0 ? 'ok  ' : 'FAIL'} ${name}: ${passed} in ${seconds} s${why}\n`,
  );
  if (failed > 0 && !isE2e(file)) process.stdout.write(`${output}\n`);
  return outcome;
}

/** uvu prints a summary for each process. No summary: it crashed, or forgot to call `.run()`. */
function read(output: string, code: number | null): Outcome {
  const number = (label: string) =>
    Number(new RegExp(`${label}:\\s+(\\d+)`).exec(output)?.[1] ?? 0);
  const [tests, passed, skipped] = [number('Total'), number('Passed'), number('Skipped')];
  const failed = Math.max(tests - passed - skipped, code === 0 && tests > 0 ? 0 : 1);
  return { passed, failed, skipped };
}
