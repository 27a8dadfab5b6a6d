/** `umbra explain`. */
import { POLICIES } from '../../proxy/config/explain.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import type { Output } from './output.ts';

/** Prints what the options of a policy, or of all, mean. @throws UmbraError E_POLICY_UNKNOWN */
export function explain(policy: string | undefined, output: Output): void {
  const names = policy === undefined ? Object.keys(POLICIES) : [policy];
  const chosen = names.map((name) => {
    const options = POLICIES[name];
    if (options !== undefined) return { name, options };
    const message = `there is no policy ${name}; there are: ${Object.keys(POLICIES).join(', ')}`;
    throw new UmbraError({ code: 'E_POLICY_UNKNOWN', message });
  });
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
