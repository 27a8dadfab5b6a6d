/** A range of seeds of the persister's stories, one after the other. */
import type { PersistBroken, PersistPlan } from './persist-plan.ts';
import { runPersist } from './persist-world.ts';

export interface PersistShare {
  readonly firstSeed: number;
  /** Least number of rounds to run, a seed at a time. */
  readonly rounds: number;
  readonly broken?: PersistBroken | undefined;
  /** Ends at the first seed that breaks a promise. */
  readonly stopAtFirst?: boolean;
}

export interface PersistShareResult {
  readonly rounds: number;
  readonly committed: number;
  readonly lastSeed: number;
  readonly violations: readonly { readonly seed: number; readonly what: string }[];
  /** States of the machine that were entered. */
  readonly states: readonly number[];
}

/** Runs stories until there are rounds enough. */
export function workPersist(share: PersistShare): PersistShareResult {
  const { firstSeed, broken, stopAtFirst = false } = share;
  const violations: { seed: number; what: string }[] = [];
  const states = new Set<number>();
  let rounds = 0;
  let committed = 0;
  let seed = firstSeed - 1;
  while (rounds < share.rounds) {
    seed += 1;
    const outcome = runPersist({ seed, broken });
    rounds += outcome.rounds;
    committed += outcome.committed;
    for (const state of outcome.states) states.add(state);
    violations.push(...outcome.violations.map((what) => ({ seed, what })));
    if (stopAtFirst && violations.length > 0) break;
  }
  return { rounds, committed, lastSeed: seed, violations, states: [...states] };
}

/**
 * Leaves out faults that a story does without.
 * @returns the plan with the fewest faults found that still breaks a promise
 */
export function shrinkPersist(
  seed: number,
  plan: PersistPlan,
  broken: PersistBroken | undefined,
): PersistPlan {
  for (let at = 0; at < plan.faults.length; at++) {
    const without = { ...plan, faults: plan.faults.filter((_, index) => index !== at) };
    const { violations } = runPersist({ seed, plan: without, broken });
    if (violations.length > 0) return shrinkPersist(seed, without, broken);
  }
  return plan;
}
