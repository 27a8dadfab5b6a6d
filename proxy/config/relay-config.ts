/**
 * relay.yaml and the options of `umbra relay`, checked whole before anything is opened. PURE.
 *
 *     text ─▶ text.ts ─▶ + options of the command ─▶ relay-schema.ts ─▶ rules ─▶ RelayConfig
 *
 * An option of the command takes the place of the file's, and is checked by the same schema.
 */
import { resolve } from 'node:path';
import type { EvacuationPolicy } from '../../policies/index.ts';
import { type Address, formatAddress } from '../host/address.ts';
import type { RelayShadows } from '../protocol/relay.ts';
import { configError, describeIssue } from './problems.ts';
import { RELAY_DEFAULTS, type RelayFile, relaySchema } from './relay-schema.ts';
import { type LineOf, parseText } from './text.ts';

/** A relay as it is configured: checked, paths absolute, quantities in bytes and milliseconds. */
export interface RelayConfig {
  readonly routes: readonly {
    readonly name: string;
    readonly listen: Address;
    readonly to: Address;
  }[];
  readonly stallLimitMs: number;
  /** Undefined: all migrations flow at once. */
  readonly evacuation: EvacuationPolicy | undefined;
  /** Undefined: no shadows are kept. */
  readonly store: RelayShadows | undefined;
  /** Folder for reports. */
  readonly report: string | undefined;
}

/** An option of the command. */
export interface RelayOption {
  /** Its name, as `--at-once`. */
  readonly flag: string;
  /** The option of relay.yaml whose place it takes. */
  readonly path: string;
  /** Value as the file would have it; paths absolute. */
  readonly value: unknown;
}

/** A relay.yaml, and the options that were given beside it. */
export interface RelaySource {
  /** Undefined: there is no file. */
  readonly file: { readonly path: string; readonly text: string } | undefined;
  readonly options: readonly RelayOption[];
}

/** A source that is right: what it says, and what it means. */
export interface ParsedRelay {
  /** As it was written. */
  readonly written: unknown;
  readonly parsed: RelayFile;
  readonly config: RelayConfig;
}

const ROUTES = 'routes';

/**
 * Parses, checks and resolves.
 * @throws UmbraError E_CONFIG, naming every problem by its line and path
 */
export function parseRelay({ file, options }: RelaySource): ParsedRelay {
  const location = file?.path ?? 'umbra relay';
  const yaml = file === undefined ? NO_FILE : parseText(file.text);
  if (yaml.problems !== undefined) throw configError(location, yaml.problems);
  const { lineOf } = yaml;
  const refuse = (problems: readonly string[]) => {
    const named = problems.map((problem) => byFlag(problem, options));
    return configError(location, named, lineOf);
  };
  const routed = options.find(({ path }) => path === ROUTES);
  if (file !== undefined && routed !== undefined) {
    throw refuse([`${routed.flag}: the file has the routes; leave it out`]);
  }
  const written = withOptions(yaml.value, options);
  const result = relaySchema.safeParse(written);
  if (!result.success) {
    throw refuse(result.error.issues.flatMap((issue) => describeIssue(issue, written)));
  }
  const parsed = result.data;
  const config = configOf(parsed, file === undefined ? '.' : resolve(file.path, '..'));
  const problems = [...routeProblems(config), ...idleOptions(parsed), ...budgetProblems(config)];
  if (problems.length > 0) throw refuse(problems);
  return { written, parsed, config };
}

const NO_FILE: { readonly value: unknown; readonly lineOf: LineOf; readonly problems?: undefined } =
  { value: {}, lineOf: () => undefined };

/** Puts the command's options into what the file says; what is no mapping is left to the schema. */
function withOptions(value: unknown, options: readonly RelayOption[]): unknown {
  if (!isMapping(value)) return value;
  const all = structuredClone(value);
  for (const { path, value: given } of options) {
    const keys = path.split('.');
    const last = keys.pop() ?? '';
    let place = all;
    for (const key of keys) {
      place[key] ??= {};
      const below = place[key];
      if (!isMapping(below)) return value;
      place = below;
    }
    place[last] = given;
  }
  return all;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Returns a problem, by the command's option that it comes from, if there is one. */
function byFlag(problem: string, options: readonly RelayOption[]): string {
  const [, path = '', rest = ''] = /^(\S+): ([\s\S]*)$/.exec(problem) ?? [];
  const option = options.find((one) => one.path === path || path.startsWith(`${one.path}[`));
  if (option === undefined) return problem;
  const part = path.slice(option.path.length);
  return `${option.flag}${part === '' ? '' : ` ${part}`}: ${rest}`;
}

function configOf({ migrations, store, epochs, ...file }: RelayFile, base: string): RelayConfig {
  const { atOnce, order = RELAY_DEFAULTS.order, slot: slotMs = RELAY_DEFAULTS.slotMs } = migrations;
  const { directory, headroom = RELAY_DEFAULTS.headroomBytes } = store;
  const { inFlight = RELAY_DEFAULTS.inFlightBytes } = migrations;
  return {
    routes: file.routes.map(({ name, listen, to }, at) => ({
      name: name ?? `vm${at}`,
      listen,
      to,
    })),
    stallLimitMs: file.stallLimit,
    evacuation: atOnce === undefined ? undefined : { order, atOnce, slotMs },
    store:
      directory === undefined
        ? undefined
        : {
            directory: resolve(base, directory),
            budgetBytes: store.budget,
            headroomBytes: headroom,
            keep: epochs.keep ?? RELAY_DEFAULTS.keep,
            inFlightBytes: inFlight,
          },
    report: file.report === undefined ? undefined : resolve(base, file.report),
  };
}

function routeProblems({ routes }: RelayConfig): string[] {
  const names = routes.map(({ name }) => name);
  const addresses = routes.map(({ listen }) => formatAddress(listen));
  return routes.flatMap(({ name }, at) => {
    const address = addresses[at] ?? '';
    return [
      ...(names.indexOf(name) < at
        ? [`routes[${at}].name: ${name} is the name of another route; choose another name`]
        : []),
      ...(addresses.indexOf(address) < at
        ? [`routes[${at}].listen: ${address} is the address of another route, too`]
        : []),
    ];
  });
}

/** Finds options that have no effect: they are a misunderstanding. */
function idleOptions({ migrations, store, epochs }: RelayFile): string[] {
  const without = (needed: string, given: Readonly<Record<string, unknown>>) =>
    Object.entries(given)
      .filter(([, value]) => value !== undefined)
      .map(([path]) => `${path}: has no effect without ${needed}; give it, or leave this out`);
  const { atOnce, order, slot, inFlight } = migrations;
  const turns = { 'migrations.order': order, 'migrations.slot': slot };
  const shadows = {
    'migrations.inFlight': inFlight,
    'store.budget': store.budget,
    'store.headroom': store.headroom,
    'epochs.keep': epochs.keep,
  };
  return [
    ...(atOnce === undefined ? without('migrations.atOnce', turns) : []),
    ...(store.directory === undefined ? without('store.directory', shadows) : []),
  ];
}

function budgetProblems({ store }: RelayConfig): string[] {
  if (store?.budgetBytes === undefined || store.budgetBytes > store.inFlightBytes) return [];
  return [
    `store.budget: ${store.budgetBytes} bytes are no more than what is in flight of one ` +
      `migration (${store.inFlightBytes}); raise it, or lower migrations.inFlight`,
  ];
}
