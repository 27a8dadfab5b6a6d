/** `umbra explain`. */
import { type OptionEntry, POLICIES } from '../../proxy/config/explain.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import type { Output } from './output.ts';

interface Explained {
  /** The name of the policy. */
  readonly name: string;
  readonly options: readonly OptionEntry[];
}

/**
 * Prints what one option, the options of a policy, or all of them mean.
 * @throws UmbraError E_POLICY_UNKNOWN
 */
export function explain(wanted: string | undefined, output: Output): void {
  const chosen = explained(wanted);
  const text = chosen.map(({ name, options }) => {
    const lines = options.map(({ option, unit, default: usual, effect }) =>
      [option, `    ${effect}`, `    unit: ${unit}`, `    default: ${usual}`].join('\n'),
    );
    return [name, ...lines].join('\n\n');
  });
  output.result(
    Object.fromEntries(chosen.map(({ name, options }) => [name, options])),
    text.join('\n\n'),
  );
}

/** @throws UmbraError E_POLICY_UNKNOWN */
export function explained(wanted: string | undefined): Explained[] {
  const policies = Object.entries(POLICIES).map(([name, options]) => ({ name, options }));
  if (wanted === undefined) return policies;
  const policy = policies.filter(({ name }) => name === wanted);
  if (policy.length > 0) return policy;
  const found = policies.flatMap(({ name, options }) => {
    const named = options.filter(({ option }) => option === wanted && option.includes('.'));
    return named.length === 0 ? [] : [{ name, options: named }];
  });
  if (found.length > 0) return found;
  const names = policies.map(({ name }) => name).join(', ');
  const message = `there is no policy or option ${wanted}; policies are: ${names}`;
  throw new UmbraError({ code: 'E_POLICY_UNKNOWN', message });
}
