/** The runner of the tests, on files that fail in every way a test file can (fixtures/). */
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { type Bundled, bundled } from '../support/bundled.ts';
import { suite } from '../support/suite.ts';
import { type FileResult, needsOwnProcess } from './outcome.ts';
import { runFiles } from './run-files.ts';

/** Limit for a process on a busy machine to import a small file, and to run its tests. */
const LIMIT_MS = 60_000;
/** Limit for files that never end. */
const SHORT_LIMIT_MS = 3_000;
const NAMES = [
  'passes',
  'tells-process',
  'own-process',
  'tells-process-again',
  'fails',
  'crashes',
  'cannot-load',
  'exits',
  'never-settles',
  'forgets-run',
  'changes-process',
  'skips',
] as const;

type Results = ReadonlyMap<string, FileResult>;

const WORKER = fileURLToPath(new URL('worker.ts', import.meta.url));

const test = suite('test runner');
/** The worker, without a loader of TypeScript: most fixtures end their process. */
let worker: Bundled;
let results: Results;

test.before(async () => {
  worker = await bundled(WORKER);
  results = await resultsOf(NAMES, 1, LIMIT_MS);
});
test.after(() => worker.remove());

/** Runs files. @returns the result of each, by its name */
async function resultsOf(
  names: readonly string[],
  processes: number,
  limitMs: number,
): Promise<Results> {
  const byName = new Map<string, FileResult>();
  const paths = names.map((name) =>
    fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url)),
  );
  const onResult = (path: string, result: FileResult) => {
    assert.not(byName.has(basename(path, '.mjs')), `${path} ran twice`);
    byName.set(basename(path, '.mjs'), result);
  };
  const returned = await runFiles(paths, {
    processes,
    limitMs,
    worker: { path: worker.path, execArgv: [] },
    onResult,
  });
  assert.equal(returned, [...byName.values()]);
  return byName;
}

/** Returns for each file `PASSED passed, FAILED failed`, and its end if it was not regular. */
function told(of: Results): Readonly<Record<string, string>> {
  return Object.fromEntries(
    [...of].map(([name, { outcome, why }]) => {
      const counts = `${outcome.passed} passed, ${outcome.failed} failed`;
      return [name, why === undefined ? counts : `${counts}: ${why}`];
    }),
  );
}

function outputOf(name: string, of = results): string {
  return of.get(name)?.output ?? '';
}

/** Returns the pid of the process in which a file says it has run. */
function pidOf(name: (typeof NAMES)[number]): string {
  const [, pid] = /in process (\d+)/.exec(outputOf(name)) ?? [];
  assert.ok(pid !== undefined, name);
  return pid;
}

test('after files that fail, the next ones run all the same', () => {
  const ended = '0 passed, 1 failed: its process ended: exit code';
  assert.equal(told(results), {
    passes: '2 passed, 0 failed',
    'tells-process': '1 passed, 0 failed',
    'own-process': '1 passed, 0 failed',
    'tells-process-again': '1 passed, 0 failed',
    fails: '1 passed, 1 failed',
    crashes: `${ended} 1`,
    'cannot-load': `${ended} 1`,
    exits: `${ended} 1`,
    'never-settles': `${ended} 13`, // Node's, for a wait at the top level that nothing can end
    'forgets-run': '0 passed, 1 failed',
    'changes-process': '1 passed, 1 failed',
    skips: '1 passed, 0 failed',
  });
});

test('a skipped test does not count as passed', () => {
  assert.is(results.get('skips')?.outcome.skipped, 1);
});

test('output is attributed to the file that wrote it', () => {
  for (const name of ['fails', 'crashes', 'cannot-load']) {
    const wrote = NAMES.filter((one) => outputOf(one).includes(`from ${name}`));
    assert.equal(wrote, [name]);
  }
});

test('a file that leaves the process changed fails, and each change is named', () => {
  for (const what of ['the variable UMBRA_FIXTURE', "the listeners for 'SIGUSR2'", 'the umask']) {
    const line = `changed ${what} of the process and did not put it back`;
    assert.ok(outputOf('changes-process').includes(line), what);
  }
});

test('files share a process until one fails, except those that need their own', () => {
  assert.is(pidOf('tells-process-again'), pidOf('tells-process'));
  assert.is.not(pidOf('own-process'), pidOf('tells-process'));
  assert.is.not(pidOf('skips'), pidOf('changes-process'));
});

test('a file that never ends is stopped together with the processes it started', async () => {
  const names = ['never-ends', 'leaves-open', 'passes'];
  const late = await resultsOf(names, 2, SHORT_LIMIT_MS);
  const stopped = `stopped after ${SHORT_LIMIT_MS / 1000} s`;
  assert.equal(told(late), {
    'never-ends': `0 passed, 1 failed: ${stopped}`,
    'leaves-open': `1 passed, 1 failed: ${stopped}`,
    passes: '2 passed, 0 failed',
  });
  const [, pid = ''] = /started (\d+)/.exec(outputOf('never-ends', late)) ?? [];
  assert.ok(pid !== '' && isOver(pid), 'a process that the file started still runs');
});

test('only the head comment says that a file needs its own process, with the reason', () => {
  assert.ok(needsOwnProcess('/** OWN PROCESS: reason */\n'));
  assert.ok(needsOwnProcess('/**\n * What it tests.\n * OWN PROCESS: reason\n */\n'));
  assert.not(needsOwnProcess('/**\n * OWN PROCESS:\n */\n'));
  assert.not(needsOwnProcess('/** It needs no OWN PROCESS: none. */\n'));
  assert.not(needsOwnProcess("import 'x';\n/** OWN PROCESS: reason */\n"));
});

/** Returns whether a process has ended; one that was not yet waited for is a zombie. */
function isOver(pid: string): boolean {
  const path = `/proc/${pid}/stat`;
  return !existsSync(path) || / Z /.test(readFileSync(path, 'utf8'));
}

test.run();
