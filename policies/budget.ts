/**
 * Admission of a round to the host's memory budget. PURE: memory taken and needed in, decision out.
 *
 *     committed    memory of the present epochs, by the kernel's own account of their files
 *     owed         memory that a fold under way has yet to take
 *     staging      memory the round reserves: all RAM of a member, or what is expected to differ
 *     in flight    memory of proxies besides: device state, and bytes between socket and shadow
 *
 *     committed + owed + staging + in flight ≤ budget, or the round is refused, or waits
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
      /** True if the round would not fit even without any epoch. */
      readonly never: boolean;
      readonly reason: string;
    };

/**
 * Decides whether a round may begin.
 * @param budgetBytes undefined: no budget, the host's own memory is the limit
 */
export function admitRound(need: MemoryNeed, budgetBytes: number | undefined): BudgetDecision {
  const { committedBytes, stagingBytes, inFlightBytes, owedBytes = 0 } = need;
  if (budgetBytes === undefined) return { admit: true, freeBytes: Number.POSITIVE_INFINITY };
  const roundBytes = stagingBytes + inFlightBytes;
  const missingBytes = committedBytes + owedBytes + roundBytes - budgetBytes;
  if (missingBytes <= 0) return { admit: true, freeBytes: -missingBytes };
  const never = roundBytes > budgetBytes;
  const owed = owedBytes > 0 ? `a fold has yet to take ${owedBytes}, ` : '';
  const parts =
    `the round needs ${stagingBytes} bytes for its shadows and ${inFlightBytes} in flight, ` +
    `epochs hold ${committedBytes}, ${owed}the budget is ${budgetBytes}`;
  return { admit: false, missingBytes, never, reason: `${parts}: ${missingBytes} are missing` };
}
