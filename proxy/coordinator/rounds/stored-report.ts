/**
 * A round's report as a file keeps it. PURE.
 *
 *     version 2   RoundReport (protocol/report.ts) and {"version": 2}
 *     version 1   no version; 0.1.0 wrote it: `members[].protocol` in place of `cut`, and null for
 *                 figures that were infinite
 *
 * Both are read, the present version is written. Fields that this version does not know are
 * ignored.
 */
import { newField, newValue } from '../../protocol/renamed.ts';
import { type RoundReport, roundReportSchema } from '../../protocol/report.ts';

const VERSION = 2;

/** Returns the text of a report's file. */
export function writeReport(report: RoundReport): string {
  return JSON.stringify({ version: VERSION, ...report });
}

/** Returns the report in a file’s text; undefined if this version can read none in it. */
export function readReport(text: string): RoundReport | undefined {
  const stored = parsed(text);
  if (!isObject(stored)) return undefined;
  const { version = 1 } = stored;
  if (version !== 1 && version !== VERSION) return undefined;
  const report = roundReportSchema.safeParse(version === 1 ? translated(stored) : stored);
  return report.success ? report.data : undefined;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns a report of version 1 in the spelling of this version. */
function translated(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(translated);
  if (!isObject(value)) return value;
  const known = Object.entries(value).filter(([, one]) => one !== null);
  return Object.fromEntries(
    known.map(([key, one]) => {
      const field = newField(key) ?? key;
      return [field, newValue(field, one) ?? translated(one)];
    }),
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
