/** A benchmark and its result. */
import { type ExecFileSyncOptionsWithStringEncoding, execFileSync } from 'node:child_process';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import type { Spread } from './statistics.ts';

export interface Measurement {
  /** Figures of the contract: name to value. */
  readonly figures: Readonly<Record<string, number>>;
  /** Measured values, each with its range, for the operator. */
  readonly rows: readonly Row[];
}

export interface Row {
  readonly what: string;
  readonly unit: string;
  readonly spread: Spread;
}

export interface BenchOptions {
  /** Folder for plots; undefined: none are drawn. */
  readonly out: string | undefined;
  /** Number of counted repetitions; each benchmark has its own default. */
  readonly runs: number | undefined;
}

export type Benchmark = (
  progress: (line: string) => void,
  options: BenchOptions,
) => Promise<Measurement>;

/** Returns the machine and program versions that figures were measured on. */
export function environment(): Readonly<Record<string, string | number>> {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    commit: commit(),
  };
}

function commit(): string {
  try {
    const options: ExecFileSyncOptionsWithStringEncoding = {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    };
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], options).trim();
  } catch {
    return 'unknown';
  }
}
