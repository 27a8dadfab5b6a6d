/** Problems of a cluster.yaml, in words: each by its path in the file. PURE. */
import type * as z from 'zod';
import { UmbraError } from '../failure/failure.ts';
import { newField, newValue } from '../protocol/renamed.ts';

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

/** Makes the error of a file with problems. @returns UmbraError E_CONFIG */
export function configError(file: string, problems: readonly string[]): UmbraError {
  const count = `${problems.length} problem${problems.length === 1 ? '' : 's'}`;
  return new UmbraError({
    code: 'E_CONFIG',
    message: [`${file}: ${count}`, ...shortened(problems)].join('\n  '),
    hint: 'Correct the file; nothing was started.',
  });
}

function shortened(problems: readonly string[]): string[] {
  const first = problems.slice(0, PROBLEMS_MAX).map((problem) => {
    return problem.length > PROBLEM_CHARS_MAX ? `${problem.slice(0, PROBLEM_CHARS_MAX)}…` : problem;
  });
  const more = problems.length - first.length;
  return more > 0 ? [...first, `and ${more} more`] : first;
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
