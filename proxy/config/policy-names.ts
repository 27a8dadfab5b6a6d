/** Names under which options are explained, in the order they are printed. PURE. */
export const POLICY_NAMES = [
  'capture',
  'memory-budget',
  'retention',
  'memory-bound',
  'multiplexing',
  'end-condition',
  'durable-tier',
  'restore',
  'network',
  'interval',
  'relay',
] as const;

export type PolicyName = (typeof POLICY_NAMES)[number];
