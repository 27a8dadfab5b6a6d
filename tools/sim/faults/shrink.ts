/** Shortens the story of a seed that breaks a promise: leaves out faults that it does not need. */
import type { Plan } from './plan.ts';
import type { Broken } from './terms.ts';
import { run } from './world.ts';

/** Returns the plan with the fewest faults found that still breaks a promise. */
export function shrink(seed: number, plan: Plan, broken?: Broken): Plan {
  for (let at = 0; at < plan.faults.length; at++) {
    const without = { ...plan, faults: plan.faults.filter((_, index) => index !== at) };
    const { violations } = run({ seed, plan: without, broken });
    if (violations.length > 0) return shrink(seed, without, broken);
  }
  const calm = { ...plan, unreliable: false };
  if (plan.unreliable && run({ seed, plan: calm, broken }).violations.length > 0) {
    return shrink(seed, calm, broken);
  }
  return plan;
}
