import { spawn } from 'node:child_process';
import { SetupError } from './errors.ts';

/** Limit of a command's output, bytes; the longest of apt and readelf is a tenth of it. */
const OUTPUT_BYTES_MAX = 8 * 1024 * 1024;

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Limit after which the command is killed and fails, milliseconds. Default: ten minutes. */
  readonly timeoutMs?: number;
}

/**
 * Runs a program and returns its standard output as text.
 * @throws SetupError SETUP_COMMAND_FAILED with the end of its standard error
 */
export function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: 'C', ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // Not spawn's own `timeout`: its timer outlives a program that cannot be started.
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 600_000);
    let output = '';
    let complaint = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.length > OUTPUT_BYTES_MAX) child.kill('SIGKILL');
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-4096);
    });
    const fail = (why: string, cause?: unknown) =>
      reject(
        new SetupError(
          'SETUP_COMMAND_FAILED',
          `${program} ${args.join(' ')}: ${why}\n${complaint}`.trim(),
          { cause },
        ),
      );
    child.once('error', (error) => {
      clearTimeout(timer);
      fail(error.message, error);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(output);
      else fail(code === null ? `killed by ${signal}` : `exit code ${code}`);
    });
  });
}
