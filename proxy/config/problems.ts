/** Problems of a file, in words: each by its line, and its path in the file. PURE. */
import type * as z from 'zod';
import { UmbraError } from '../failure/failure.ts';
import { newField, newValue } from '../protocol/renamed.ts';
import type { LineOf } from './text.ts';

/** The most that is printed, in number and length: every line of a file may be wrong. */
const PROBLEMS_MAX = 100;
const PROBLEM_CHARS_MAX = 500;

/** Describes what a schema says is wrong. @param value what was parsed */
export function describeIssue(issue: z.core.$ZodIssue, value: unknown): string[] {
  const at = formatPath(issue.path);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const present = newField(key);
      const hint = present === undefined ? '' : `; it is called ${present} now`;
      return `${at === '' ? key : `${at}.${key}`}: no such option${hint}`;
    });
  }
  const found = issue.path.reduce<unknown>((part, key) => partOf(part, key), value);
  const present = newValue(String(issue.path.at(-1)), found);
  const hint = present === undefined ? '' : `; "${String(found)}" is written ${present} now`;
  return [`${at === '' ? '' : `${at}: `}${issue.message}${hint}`];
}

/**
 * Makes the error of a file with problems.
 * @param lineOf adds the line to problems that begin with a path
 * @returns UmbraError E_CONFIG
 */
export function configError(
  file: string,
  problems: readonly string[],
  lineOf: LineOf = () => undefined,
): UmbraError {
  const count = `${problems.length} problem${problems.length === 1 ? '' : 's'}`;
  const told = shortened(problems).map((problem) => {
    const line = lineOf(pathOf(problem));
    return line === undefined ? problem : `line ${line}: ${problem}`;
  });
  const more = problems.length - told.length;
  if (more > 0) told.push(`and ${more} more`);
  return new UmbraError({
    code: 'E_CONFIG',
    message: [`${file}: ${count}`, ...told].join('\n  '),
    hint: 'Correct it; nothing was started or changed.',
  });
}

function shortened(problems: readonly string[]): string[] {
  return problems.slice(0, PROBLEMS_MAX).map((problem) => {
    return problem.length > PROBLEM_CHARS_MAX ? `${problem.slice(0, PROBLEM_CHARS_MAX)}…` : problem;
  });
}

/** Returns the path that a problem begins with; empty if it begins otherwise. */
function pathOf(problem: string): PropertyKey[] {
  const [path = ''] = /^[^\s:]+(?=: )/.exec(problem) ?? [];
  return path.split(/[.[\]]+/).filter((part) => part !== '');
}

function partOf(value: unknown, key: PropertyKey): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Reflect.get(value, key);
}

function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
}
