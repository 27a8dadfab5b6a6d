/** Addresses a relay listens on and connects to: `tcp://HOST:PORT`, `unix://PATH`. PURE. */
import { UmbraError } from '../failure/failure.ts';
import { SOCKET_PATH_BYTES_MAX } from './linux.ts';

export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

const PORT_MAX = 65_535;

/** Parses an address. @throws UmbraError E_RELAY_ADDRESS */
export function parseAddress(text: string): Address {
  const unix = /^unix:\/\/(\/.+)$/.exec(text)?.[1];
  if (unix !== undefined) {
    if (Buffer.byteLength(unix) <= SOCKET_PATH_BYTES_MAX) return { kind: 'unix', path: unix };
    throw refuse(text, `its path is longer than ${SOCKET_PATH_BYTES_MAX} bytes`);
  }
  const [, bracketed, plain, digits] = /^tcp:\/\/(?:\[([^\]]+)\]|([^:/]+)):(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined) throw refuse(text, 'it is neither tcp://HOST:PORT nor unix:///PATH');
  if (port < 1 || port > PORT_MAX) throw refuse(text, `there is no port ${digits}`);
  return { kind: 'tcp', host, port };
}

export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix://${address.path}`;
  const { host, port } = address;
  return `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function refuse(text: string, why: string): UmbraError {
  return new UmbraError({ code: 'E_RELAY_ADDRESS', message: `${text}: ${why}` });
}
