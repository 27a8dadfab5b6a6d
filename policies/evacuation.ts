/**
 * The choice of migrations that flow through a relay now. PURE.
 *
 *     in-order          the first that came, each from beginning to end; the others wait
 *     round-robin       first passes take turns
 *     finish-together   first passes of those with the most to send (multiplexing.ts)
 *
 *     WAITS ──its turn──▶ FIRST PASS ──sent once, or that is unknown──▶ RELEASED
 *
 * A migration can be held only in its first pass: after it the VM may be stopped at any moment, and
 * a relay is not told. So a released migration keeps its place until it is over.
 */
import type { Estimate } from './estimator.ts';
import { chooseSlots } from './multiplexing.ts';

export type EvacuationOrder = 'in-order' | 'round-robin' | 'finish-together';

export interface EvacuationPolicy {
  readonly order: EvacuationOrder;
  /** Number of migrations that flow at once. */
  readonly atOnce: number;
  readonly slotMs: number;
}

export interface Passing {
  /** True once it can no longer be held. */
  readonly released: boolean;
  readonly estimate: Estimate;
}

/**
 * Chooses the migrations that flow now.
 * @param migrations in the order in which they came
 * @param elapsedMs milliseconds since the first of them came
 * @returns those that flow; more than `atOnce` if more could not be held
 */
export function chooseMigrations(
  migrations: ReadonlyMap<string, Passing>,
  elapsedMs: number,
  { order, atOnce, slotMs }: EvacuationPolicy,
): ReadonlySet<string> {
  const open = new Set<string>();
  const waiting = new Map<string, Estimate>();
  for (const [name, { released, estimate }] of migrations) {
    if (released) open.add(name);
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
