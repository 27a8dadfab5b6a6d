/**
 * May a round begin, within the host's memory budget? PURE: what is there and what is needed in, the
 * decision out.
 *
 *     committed    memory of the epochs there are, by the kernel's own account of their files
 *     owed         what a fold under way is yet to take
 *     staging      what the round reserves: all RAM of a member, or what is expected to differ
 *     in flight    what proxies may hold besides: device state and what is between socket and shadow
 *
 *     committed + owed + staging + in flight ≤ budget, or it is refused, or waits until it fits
 */

export interface MemoryNeed {
  readonly committedBytes: number;
  readonly owedBytes?: number;
  readonly stagingBytes: number;
  readonly inFlightBytes: number;
}

export type BudgetDecision =
  | { readonly admit: true; readonly freeBytes: number }
  | {
      readonly admit: false;
      readonly missingBytes: number;
      /** No removal of epochs makes it fit. */
      readonly never: boolean;
      readonly reason: string;
    };

/** @param budgetBytes undefined: no budget, the host's own memory is the limit */
export function admitRound(need: MemoryNeed, budgetBytes: number | undefined): BudgetDecision {
  const { committedBytes, stagingBytes, inFlightBytes, owedBytes = 0 } = need;
  if (budgetBytes === undefined) return { admit: true, freeBytes: Number.POSITIVE_INFINITY };
  const roundBytes = stagingBytes + inFlightBytes;
  const missingBytes = committedBytes + owedBytes + roundBytes - budgetBytes;
  if (missingBytes <= 0) return { admit: true, freeBytes: -missingBytes };
  const never = roundBytes > budgetBytes;
  const owed = owedBytes > 0 ? `one that is folded is yet to take ${owedBytes}, ` : '';
  const parts =
    `the round needs ${stagingBytes} bytes for its shadows and ${inFlightBytes} in flight, ` +
    `epochs hold ${committedBytes}, ${owed}the budget is ${budgetBytes}`;
  return { admit: false, missingBytes, never, reason: `${parts}: ${missingBytes} are missing` };
}
