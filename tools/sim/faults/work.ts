/** A range of seeds, one after the other: what a process of its own does of a large run. */
import { Coverage } from './coverage.ts';
import type { Broken } from './terms.ts';
import { run } from './world.ts';

export interface Share {
  readonly firstSeed: number;
  /** The least number of rounds that are run, a seed at a time. */
  readonly rounds: number;
  readonly broken?: Broken | undefined;
  /** Ends at the first seed that breaks a promise. */
  readonly stopAtFirst?: boolean;
}

export interface ShareResult {
  readonly rounds: number;
  readonly committed: number;
  readonly lastSeed: number;
  /** The longest that a guest stood whose own proxy and QEMU were well, milliseconds. */
  readonly longestStandMs: number;
  readonly violations: readonly { readonly seed: number; readonly what: string }[];
  readonly cells: Readonly<Record<string, number>>;
}

export function work({ firstSeed, rounds, broken, stopAtFirst = false }: Share): ShareResult {
  const coverage = new Coverage();
  const violations: { seed: number; what: string }[] = [];
  let done = 0;
  let committed = 0;
  let longestStandMs = 0;
  let seed = firstSeed - 1;
  while (done < rounds) {
    seed += 1;
    const outcome = run({ seed, coverage, broken });
    done += outcome.rounds;
    committed += outcome.committed;
    longestStandMs = Math.max(longestStandMs, outcome.longestStandMs);
    violations.push(...outcome.violations.map((what) => ({ seed, what })));
    if (stopAtFirst && violations.length > 0) break;
  }
  const { cells } = coverage;
  return { rounds: done, committed, lastSeed: seed, longestStandMs, violations, cells };
}
