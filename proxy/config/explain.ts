/** Help on every option of cluster.yaml and relay.yaml, read off their schemas. PURE. */
import * as z from 'zod';
import { OPTION_HELP, type OptionHelp } from './option.ts';
import { POLICY_NAMES, type PolicyName } from './policy-names.ts';
import { relaySchema } from './relay-schema.ts';
import { clusterSchema } from './schema.ts';
import { formatDuration, formatSize } from './units.ts';

/** One option, or one value of an option. */
export interface OptionEntry {
  /** Its path in the file, as `round.slots`. */
  readonly option: string;
  readonly unit: string;
  readonly default: string;
  readonly effect: string;
}

const NONE = '–';

/** Commands that do what an option would do. */
const COMMANDS: readonly { readonly policy: PolicyName; readonly entry: OptionEntry }[] = [
  {
    policy: 'retention',
    entry: {
      option: 'umbra pin EPOCH',
      unit: NONE,
      default: 'not pinned',
      effect:
        'Keeps the epoch until umbra pin EPOCH --off, whatever its age and number; umbra rm ' +
        'refuses it.',
    },
  },
];

/** An option of a file. */
export interface FileOption {
  readonly path: string;
  readonly schema: z.core.$ZodType;
  readonly help: OptionHelp;
}

export const CLUSTER_OPTIONS = optionsOf(clusterSchema, '');
export const RELAY_OPTIONS = optionsOf(relaySchema, '');
/** Options of both files: those of relay.yaml have a policy of their own. */
const OPTIONS = [...CLUSTER_OPTIONS, ...RELAY_OPTIONS];

/** Help by policy, in the order it is printed. */
export const POLICIES: Readonly<Record<string, readonly OptionEntry[]>> = Object.fromEntries(
  POLICY_NAMES.map((policy) => {
    const commands = COMMANDS.filter((one) => one.policy === policy).map(({ entry }) => entry);
    return [policy, [...entriesOf(policy), ...commands]];
  }),
);

/** Writes the reference of both files as tables of Markdown, one a policy. */
export function referenceOf(): string {
  const groups = [
    ['members', entriesOf('members')] as const,
    ...POLICY_NAMES.map((policy) => [policy, POLICIES[policy] ?? []] as const),
  ];
  const tables = groups.map(([policy, entries]) => {
    const rows = entries.map(({ option, unit, default: usual, effect }) => {
      return `| ${['`'.concat(option, '`'), unit, usual, effect].map(inCell).join(' | ')} |`;
    });
    const head = ['| option | values | default | effect |', '|---|---|---|---|'];
    return [`### ${policy}`, '', ...head, ...rows].join('\n');
  });
  return tables.join('\n\n');
}

function inCell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function entriesOf(policy: OptionHelp['policy']): readonly OptionEntry[] {
  return OPTIONS.filter(({ help }) => help.policy === policy).flatMap(({ path, schema, help }) => {
    const { unit, effect, values = {} } = help;
    const chosen = [defaultOf(schema)].flat();
    return [
      { option: path, unit, default: defaultText(schema, help), effect },
      ...Object.entries(values).map(([value, does]) => {
        const usual = chosen.includes(value) ? 'the default' : 'not chosen';
        return { option: value, unit: NONE, default: usual, effect: does };
      }),
    ];
  });
}

/** Returns the default of an option, or what holds without it. */
export function defaultText(
  schema: z.core.$ZodType,
  { quantity, usual, usualValue }: OptionHelp,
): string {
  const value = defaultOf(schema) ?? usualValue;
  if (value === undefined) return usual ?? NONE;
  const text = valueText(value, quantity);
  if (usual === undefined) return text;
  return usualValue === undefined ? `${text}: ${usual}` : `${text}, ${usual}`;
}

function valueText(value: unknown, quantity: OptionHelp['quantity']): string {
  if (Array.isArray(value)) return `[${value.join(', ')}]`;
  if (quantity === 'size') return formatSize(Number(value));
  if (quantity === 'duration') return formatDuration(Number(value));
  return String(value);
}

function defaultOf(schema: z.core.$ZodType): unknown {
  const isDefault = schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
  return isDefault ? schema.def.defaultValue : undefined;
}

/** Finds the options of a schema. @throws Error for one that has no help */
function optionsOf(schema: z.core.$ZodType, path: string): readonly FileOption[] {
  const help = schema instanceof z.ZodType ? OPTION_HELP.get(schema) : undefined;
  if (help !== undefined) return [{ path, schema, help }];
  if (schema instanceof z.ZodObject) {
    return Object.entries(schema.shape).flatMap(([key, below]) => {
      return optionsOf(below, path === '' ? key : `${path}.${key}`);
    });
  }
  if (schema instanceof z.ZodArray) return optionsOf(schema.element, `${path}[]`);
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault) {
    return optionsOf(schema.unwrap(), path);
  }
  throw new Error(`${path} has no help`);
}
