/** Names under which options of cluster.yaml are explained, in the order they are printed. PURE. */
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
] as const;

export type PolicyName = (typeof POLICY_NAMES)[number];
