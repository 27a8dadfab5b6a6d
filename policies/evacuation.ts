/**
 * Which of the migrations that are on their way through a relay flow now? PURE.
 *
 *     in-order          so many from beginning to end, those that came first; the others wait
 *     round-robin       first passes take turns
 *     finish-together   first passes of those with the most to send (multiplexing.ts)
 *
 *     WAITS ──its turn──▶ FIRST PASS ──sent once, or nobody can tell──▶ LET GO
 *
 * Only what is in its first pass can be held: after it a VM may stand at any moment, and nobody at a
 * relay is told. So a migration that was let go has its place until it is over.
 */
import type { Estimate } from './estimator.ts';
import { chooseSlots } from './multiplexing.ts';

export type EvacuationOrder = 'in-order' | 'round-robin' | 'finish-together';

export interface EvacuationPolicy {
  readonly order: EvacuationOrder;
  /** How many flow at once. */
  readonly atOnce: number;
  readonly slotMs: number;
}

export interface Passing {
  readonly letGo: boolean;
  readonly estimate: Estimate;
}

/**
 * @param migrations in the order in which they came
 * @param elapsedMs since the first of them came
 * @returns those that flow; more than `atOnce` if more could not be held
 */
export function chooseMigrations(
  migrations: ReadonlyMap<string, Passing>,
  elapsedMs: number,
  { order, atOnce, slotMs }: EvacuationPolicy,
): ReadonlySet<string> {
  const open = new Set<string>();
  const waiting = new Map<string, Estimate>();
  for (const [name, { letGo, estimate }] of migrations) {
    if (letGo) open.add(name);
    else waiting.set(name, estimate);
  }
  const places = atOnce - open.size;
  if (places <= 0 || waiting.size === 0) return open;
  const chosen =
    order === 'in-order'
      ? [...waiting.keys()].slice(0, places)
      : chooseSlots(waiting, elapsedMs, { kind: order, slotMs, atOnce: places }).open;
  return new Set([...open, ...chosen]);
}
