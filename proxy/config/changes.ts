/**
 * Differences between two readings of a file, for a daemon or a relay that runs. PURE.
 *
 *     an option that is read anew each round    changed   named with its old and its new value
 *     members, names, folders, addresses        fixed     refused: they are what runs
 */
import { isDeepStrictEqual } from 'node:util';
import { UmbraError } from '../failure/failure.ts';
import type { ChangedOption } from '../protocol/reload.ts';
import type { ParsedCluster } from './config.ts';
import { CLUSTER_OPTIONS, defaultText, type FileOption, RELAY_OPTIONS } from './explain.ts';
import type { ParsedRelay } from './relay-config.ts';

/** A reading of either file: as it was written, and with every option checked. */
interface Reading {
  readonly written: unknown;
  readonly parsed: object;
}

/** Options of cluster.yaml, beside its members, that are what runs. */
const CLUSTER_FIXED = ['cluster', 'store.directory', 'persist.to', 'network.switch'];
const RELAY_FIXED = ['store.directory', 'report'];

/**
 * Returns what a daemon is to change.
 * @throws UmbraError E_RELOAD_FIXED, naming every option that cannot change while it runs
 */
export function clusterChanges(before: ParsedCluster, after: ParsedCluster): ChangedOption[] {
  const [was, is] = [before.config, after.config];
  // Of paths, where they lead counts: the file may have been moved.
  const places: Readonly<Record<string, readonly [unknown, unknown]>> = {
    cluster: [was.directory, is.directory],
    'store.directory': [was.shadowsDirectory, is.shadowsDirectory],
    'persist.to': [was.persist?.directory, is.persist?.directory],
    'network.switch': [was.switchSockets, is.switchSockets],
  };
  const fixed = Object.entries(places)
    .filter(([, [old, now]]) => !isDeepStrictEqual(old, now))
    .map(([option]) => option);
  const files = [before.parsed.members, after.parsed.members] as const;
  // In the cluster's folder, a member has one of its own.
  const moved = fixed.includes('cluster');
  const members = moved ? [] : itemChanges('members', files, [was.members, is.members]);
  const again = 'umbra down --keep-vms, then umbra up FILE';
  requireNone([...fixed, ...members], `End the daemon, and start it with the file: ${again}`);
  return changes(CLUSTER_OPTIONS, CLUSTER_FIXED, before, after);
}

/**
 * Returns what a relay is to change.
 * @throws UmbraError E_RELOAD_FIXED, naming every option that cannot change while it runs
 */
export function relayChanges(before: ParsedRelay, after: ParsedRelay): ChangedOption[] {
  const [was, is] = [before.config, after.config];
  const fixed: string[] = [];
  if (was.store?.directory !== is.store?.directory) fixed.push('store.directory');
  if (was.report !== is.report) fixed.push('report');
  const files = [before.parsed.routes, after.parsed.routes] as const;
  const routes = itemChanges('routes', files, [was.routes, is.routes]);
  requireNone([...routes, ...fixed], 'End the relay (SIGTERM), and start it with the file.');
  return changes(RELAY_OPTIONS, RELAY_FIXED, before, after);
}

function requireNone(fixed: readonly string[], hint: string): void {
  if (fixed.length === 0) return;
  const message = `cannot change while it runs: ${fixed.join(', ')}; nothing was changed`;
  throw new UmbraError({ code: 'E_RELOAD_FIXED', message, hint });
}

/**
 * Returns what differs in a list: an option of an item, an item, or the list where it has grown.
 */
function itemChanges(
  list: string,
  [before, after]: readonly [readonly object[], readonly object[]],
  [was, is]: readonly [readonly unknown[], readonly unknown[]],
): string[] {
  if (was.length !== is.length) return [list];
  return was.flatMap((old, at) => {
    if (isDeepStrictEqual(old, is[at])) return [];
    const [first = {}, second = {}] = [before[at], after[at]];
    const keys = [...new Set([...Object.keys(first), ...Object.keys(second)])].filter((key) => {
      return !isDeepStrictEqual(valueAt(first, key), valueAt(second, key));
    });
    const item = `${list}[${at}]`;
    return keys.length === 0 ? [item] : keys.map((key) => `${item}.${key}`);
  });
}

function changes(
  options: readonly FileOption[],
  fixed: readonly string[],
  before: Reading,
  after: Reading,
): ChangedOption[] {
  return options.flatMap((option) => {
    const { path } = option;
    if (path.includes('[]') || fixed.includes(path)) return [];
    if (isDeepStrictEqual(valueAt(before.parsed, path), valueAt(after.parsed, path))) return [];
    return [{ option: path, before: textOf(before, option), after: textOf(after, option) }];
  });
}

/** Returns an option as an operator wrote it, or its default. */
function textOf({ written }: Reading, { path, schema, help }: FileOption): string {
  const value = valueAt(written, path);
  if (value === undefined || value === null) return defaultText(schema, help);
  return Array.isArray(value) ? `[${value.join(', ')}]` : String(value);
}

function valueAt(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((part, key) => {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, key)) return undefined;
    return Reflect.get(part, key);
  }, value);
}
