/** Options of `umbra relay`, checked: every mistake is named by its option. */
import type { EvacuationOrder, EvacuationPolicy } from '../../policies/index.ts';
import { NAME, NAME_HELP } from '../../proxy/config/schema.ts';
import { DURATION_HELP, parseDuration, parseSize, SIZE_HELP } from '../../proxy/config/units.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { parseAddress } from '../../proxy/relay/address.ts';
import type { RelayStoreOptions } from '../../proxy/relay/relay-store.ts';
import type { RouteOptions } from '../../proxy/relay/route.ts';

/** A destination that loads device state reads nothing for a moment. */
const STALL_LIMIT_MIN_MS = 1_000;
const SLOT_MIN_MS = 50;
const COUNT_MAX = 10_000;

export interface RelayFlags {
  readonly listen: readonly string[];
  readonly to: readonly string[];
  readonly name?: readonly string[];
  readonly stallLimit: string;
  readonly atOnce?: string;
  readonly order: EvacuationOrder;
  readonly slot: string;
  readonly shadow?: string;
  readonly budget?: string;
  readonly headroom: string;
  readonly keep: string;
  readonly report?: string;
}

/** @throws UmbraError E_RELAY_ADDRESS */
export function routesOf({ listen, to, name = [] }: RelayFlags): RouteOptions[] {
  const refuse = (message: string) => new UmbraError({ code: 'E_RELAY_ADDRESS', message });
  if (listen.length !== to.length) {
    throw refuse(`there are ${listen.length} --listen and ${to.length} --to`);
  }
  if (name.length > 0 && name.length !== listen.length) {
    throw refuse(`there are ${listen.length} --listen and ${name.length} --name`);
  }
  const names = listen.map((_, at) => name[at] ?? `vm${at}`);
  for (const [at, one] of names.entries()) {
    if (!NAME.test(one)) throw refuse(`--name ${one}: ${NAME_HELP}`);
    if (names.indexOf(one) < at) throw refuse(`--name ${one} is there twice`);
    const address = listen[at] ?? '';
    if (listen.indexOf(address) < at) throw refuse(`--listen ${address} is there twice`);
  }
  return names.map((one, at) => ({
    name: one,
    listen: parseAddress(listen[at] ?? ''),
    to: parseAddress(to[at] ?? ''),
  }));
}

/** @throws UmbraError E_CONFIG */
export function stallLimitOf({ stallLimit }: RelayFlags): number {
  return durationOf('--stall-limit', stallLimit, STALL_LIMIT_MIN_MS);
}

/** Returns the order of migrations; undefined: all flow at once. @throws UmbraError E_CONFIG */
export function evacuationOf(flags: RelayFlags): EvacuationPolicy | undefined {
  const { atOnce, order, slot } = flags;
  if (atOnce === undefined) {
    if (order === 'in-order') return undefined;
    throw refused(`--order ${order}: it has an effect only with --at-once`);
  }
  return {
    order,
    atOnce: countOf('--at-once', atOnce),
    slotMs: durationOf('--slot', slot, SLOT_MIN_MS),
  };
}

/** Returns the settings for shadows; undefined: none are kept. @throws UmbraError E_CONFIG */
export function keeperOf(flags: RelayFlags): RelayStoreOptions | undefined {
  const { shadow, budget, headroom, keep } = flags;
  if (shadow === undefined) {
    if (budget === undefined) return undefined;
    throw refused('--budget: it is what shadows may take; it has an effect only with --shadow');
  }
  return {
    directory: shadow,
    budgetBytes: budget === undefined ? undefined : sizeOf('--budget', budget),
    headroomBytes: sizeOf('--headroom', headroom),
    keep: countOf('--keep', keep),
  };
}

function durationOf(option: string, text: string, least: number): number {
  const ms = parseDuration(text);
  if (ms !== undefined && ms >= least) return ms;
  throw refused(`${option} ${text}: it must be ${DURATION_HELP}, from ${least}ms`);
}

function sizeOf(option: string, text: string): number {
  const size = parseSize(text);
  if (size !== undefined) return size;
  throw refused(`${option} ${text}: it must be ${SIZE_HELP}`);
}

function countOf(option: string, text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= COUNT_MAX) return count;
  throw refused(`${option} ${text}: it must be a whole number, from 1`);
}

function refused(message: string): UmbraError {
  return new UmbraError({ code: 'E_CONFIG', message });
}
