/**
 * Runs test files in a few processes side by side: each takes the next file when it is done with
 * one. A file that fails takes its process with it, and the files after it run in a fresh one. A
 * file that says `OWN PROCESS: reason` in the comment at its head has a process to itself.
 */
import { readFileSync } from 'node:fs';
import { type FileResult, needsOwnProcess } from './outcome.ts';
import { TestProcess, type Worker } from './test-process.ts';

export interface RunOptions {
  /** Number of processes at once. */
  readonly processes: number;
  /** Time after which a file is stopped, ms. */
  readonly limitMs: number;
  /** Program that each process runs; default: worker.ts. */
  readonly worker?: Worker;
  /** Is called when a file is over, with the time it took, ms. */
  readonly onResult: (path: string, result: FileResult, tookMs: number) => void;
}

/** @param paths absolute paths, in the order in which the files are begun */
export async function runFiles(
  paths: readonly string[],
  { processes, limitMs, worker, onResult }: RunOptions,
): Promise<FileResult[]> {
  const waiting = paths.values();
  const results: FileResult[] = [];
  const runSome = async (): Promise<void> => {
    let shared: TestProcess | undefined;
    for (const path of waiting) {
      const startedAt = performance.now();
      const isAlone = needsOwnProcess(readFileSync(path, 'utf8'));
      const one = isAlone || shared === undefined ? await TestProcess.start(worker) : shared;
      const result = await one.run(path, limitMs);
      results.push(result);
      onResult(path, result, performance.now() - startedAt);
      if (isAlone || !one.isUsable) await one.end(limitMs);
      if (!isAlone) shared = one.isUsable ? one : undefined;
    }
    await shared?.end(limitMs);
  };
  await Promise.all(Array.from({ length: processes }, runSome));
  return results;
}
