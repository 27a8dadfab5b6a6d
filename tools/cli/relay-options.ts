/** Options of `umbra relay`, as the settings of relay.yaml whose place they take. */
import { resolve } from 'node:path';
import { parseRelay, type RelayOption, type RelaySource } from '../../proxy/config/relay-config.ts';
import { UmbraError } from '../../proxy/failure/failure.ts';
import { parseAddress } from '../../proxy/host/address.ts';
import { readConfigText } from './home.ts';

export interface RelayFlags {
  readonly listen?: readonly string[];
  readonly to?: readonly string[];
  readonly name?: readonly string[];
  readonly stallLimit?: string;
  readonly atOnce?: string;
  readonly order?: string;
  readonly slot?: string;
  readonly inFlight?: string;
  readonly shadow?: string;
  readonly budget?: string;
  readonly headroom?: string;
  readonly keep?: string;
  readonly report?: string;
}

/** Options beside those of routes: name, the option of relay.yaml, and how the value is read. */
const PLACES: readonly (readonly [
  flag: Exclude<keyof RelayFlags, 'listen' | 'to' | 'name'>,
  path: string,
  read: (text: string) => unknown,
])[] = [
  ['stallLimit', 'stallLimit', String],
  ['atOnce', 'migrations.atOnce', countOf],
  ['order', 'migrations.order', String],
  ['slot', 'migrations.slot', String],
  ['inFlight', 'migrations.inFlight', String],
  ['shadow', 'store.directory', (path) => resolve(path)],
  ['budget', 'store.budget', String],
  ['headroom', 'store.headroom', String],
  ['keep', 'epochs.keep', countOf],
  ['report', 'report', (path) => resolve(path)],
];

/**
 * Returns what a relay was told: its file as it is now, and the options of the command.
 * @throws UmbraError E_CONFIG_FILE, E_RELAY_ADDRESS
 */
function relaySource(path: string | undefined, flags: RelayFlags): RelaySource {
  const file = path === undefined ? undefined : { path, text: readConfigText(path) };
  const options = PLACES.flatMap(([flag, place, read]): RelayOption[] => {
    const text = flags[flag];
    if (text === undefined) return [];
    return [{ flag: spelled(flag), path: place, value: read(text) }];
  });
  const { listen = [], to = [], name = [] } = flags;
  if (listen.length + to.length + name.length === 0 && file !== undefined) return { file, options };
  return { file, options: [routesOf({ listen, to, name }), ...options] };
}

/** Reads and checks all a relay was told. @throws UmbraError E_CONFIG, and as relaySource */
export function readRelay(path: string | undefined, flags: RelayFlags) {
  return parseRelay(relaySource(path, flags));
}

/** @throws UmbraError E_RELAY_ADDRESS */
function routesOf({
  listen,
  to,
  name,
}: Required<Pick<RelayFlags, 'listen' | 'to' | 'name'>>): RelayOption {
  const refuse = (message: string) => new UmbraError({ code: 'E_RELAY_ADDRESS', message });
  if (listen.length !== to.length) {
    throw refuse(`there are ${listen.length} --listen and ${to.length} --to`);
  }
  if (name.length > 0 && name.length !== listen.length) {
    throw refuse(`there are ${listen.length} --listen and ${name.length} --name`);
  }
  for (const address of [...listen, ...to]) parseAddress(address);
  const value = listen.map((address, at) => {
    const given = name[at];
    return { ...(given !== undefined && { name: given }), listen: address, to: to[at] };
  });
  return { flag: '--listen', path: 'routes', value };
}

/** Reads a count; what is none is left to the schema, which says so. */
function countOf(text: string): unknown {
  return /^\d+$/.test(text) ? Number(text) : text;
}

function spelled(flag: string): string {
  return `--${flag.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
