/** Output of the commands: text for a terminal, plain lines elsewhere, JSON with --json. */
import prettyBytes from 'pretty-bytes';
import prettyMilliseconds from 'pretty-ms';
import type { Failure } from '../../proxy/failure/failure.ts';
import type { Reloaded } from '../../proxy/protocol/reload.ts';

export function bytes(count: number | undefined): string {
  return count === undefined ? '-' : prettyBytes(count, { binary: true, maximumFractionDigits: 1 });
}

export function duration(ms: number | undefined): string {
  if (ms === undefined) return '-';
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return prettyMilliseconds(ms, { secondsDecimalDigits: 1 });
}

/** Returns an age in its largest unit; 0 if the clock was set back. */
export function age(ms: number): string {
  return prettyMilliseconds(Math.max(0, ms), { compact: true });
}

/** Aligns cells in columns, each as wide as its widest cell. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) =>
    Math.max(...all.map((row) => (row[column] ?? '').length)),
  );
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export function failureText(failure: Failure): string {
  const { code, message, member, where, hint } = failure;
  const lines = [`error: ${message}`, `  code:   ${code}`];
  if (member !== undefined) lines.push(`  member: ${member}`);
  if (where !== undefined) lines.push(`  where:  ${where}`);
  if (hint !== undefined) lines.push(`  next:   ${hint}`);
  return lines.join('\n');
}

/** Returns what was changed, an option a line. */
export function reloadedText({ applied }: Reloaded): string {
  if (applied.length === 0) return 'nothing has changed';
  return applied.map(({ option, before, after }) => `${option}: ${before} → ${after}`).join('\n');
}

export class Output {
  readonly json: boolean;

  constructor(json: boolean) {
    this.json = json;
  }

  /** Prints a line of text; with --json there is only the result. */
  say(text: string): void {
    if (!this.json) process.stdout.write(`${text}\n`);
  }

  /** Prints the result of the command: `data` with --json, `text` without. */
  result(data: object, text: string): void {
    process.stdout.write(this.json ? `${JSON.stringify(data)}\n` : `${text}\n`);
  }

  failure(failure: Failure): void {
    if (this.json) process.stdout.write(`${JSON.stringify({ failure })}\n`);
    else process.stderr.write(`${failureText(failure)}\n`);
  }
}
