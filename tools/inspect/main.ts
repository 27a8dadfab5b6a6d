#!/usr/bin/env node
/** Stream inspector: `main.ts [--json] [--background] FILE`. Exit 1 if the stream is refused. */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { formatReport } from './format.ts';
import { inspectStream } from './inspect.ts';

const USAGE = 'usage: inspect [--json] [--background] FILE\n';

/**
 * Runs the program. @returns exit status: 0 whole stream, 1 refused or unreadable, 2 wrong usage
 */
export async function main(args: readonly string[]): Promise<number> {
  const parsed = parse(args);
  if (parsed === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  try {
    const report = await inspectStream(parsed.path, parsed.background ? 'background' : 'precopy');
    process.stdout.write(
      parsed.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report),
    );
    return report.error === undefined ? 0 : 1;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    return 1;
  }
}

function parse(
  args: readonly string[],
): { path: string; json: boolean; background: boolean } | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { json: { type: 'boolean' }, background: { type: 'boolean' } },
    });
    const [path] = positionals;
    if (path === undefined || positionals.length > 1) return undefined;
    return { path, json: values.json ?? false, background: values.background ?? false };
  } catch {
    return undefined;
  }
}

const started = process.argv[1];
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2));
}
