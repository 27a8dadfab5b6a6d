/** End conditions in cluster.yaml: a name, and a value where it takes one. PURE. */
import type { EndCondition } from '../../policies/index.ts';
import { parseDuration } from './units.ts';

export const END_WHEN_HELP =
  'all-first-pass, any-first-pass, no-progress, or predicted-downtime with a duration, ' +
  'as "predicted-downtime 50ms"';

/** Parses a condition, as `predicted-downtime 50ms`. Returns undefined for anything else. */
export function parseEndCondition(text: string): EndCondition | undefined {
  const [kind, value, ...rest] = text.trim().split(/\s+/);
  if (rest.length > 0) return undefined;
  switch (kind) {
    case 'all-first-pass':
    case 'any-first-pass':
    case 'no-progress':
      return value === undefined ? { kind } : undefined;
    case 'predicted-downtime': {
      const ms = parseDuration(value ?? '');
      return ms === undefined || ms <= 0 ? undefined : { kind, ms };
    }
    default:
      return undefined;
  }
}
