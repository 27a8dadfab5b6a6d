/** The outcome of a test file. PURE. */

export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The outcome of a file and what to print of it. */
export interface FileResult {
  readonly outcome: Outcome;
  /** All that the file and the processes it started wrote to stdout and stderr. */
  readonly output: string;
  /** How it ended, if not by itself. */
  readonly why: string | undefined;
}

/**
 * Reads the summary that uvu prints after the tests of a file. Without one the file has failed: it
 * crashed, was stopped, or forgot to call `.run()`.
 *
 * @param code exit code of the process, or what it would be if it ended now; null after a signal
 */
export function readOutcome(output: string, code: number | null): Outcome {
  const number = (label: string) =>
    Number(new RegExp(`${label}:\\s+(\\d+)`).exec(output)?.[1] ?? 0);
  const [tests, passed, skipped] = [number('Total'), number('Passed'), number('Skipped')];
  const failed = Math.max(tests - passed - skipped, code === 0 && tests > 0 ? 0 : 1);
  return { passed, failed, skipped };
}

/**
 * Returns whether a test file says that it needs a process of its own: a line of the comment at
 * its head begins with `OWN PROCESS:`, followed by the reason.
 *
 * @param source text of the file
 */
export function needsOwnProcess(source: string): boolean {
  const [head] = /^\s*\/\*[\s\S]*?\*\//.exec(source) ?? [''];
  return /^[\s/*]*OWN PROCESS: \S/m.test(head);
}
