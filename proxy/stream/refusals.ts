/**
 * Refusals that name what the peer wanted instead of a precopy stream.
 */
import type { StreamError, StreamErrorCode, StreamPosition } from './errors.ts';
import * as wire from './wire.ts';

/** Bytes 0 and 1 of a TLS record that holds a handshake: content type 22, version 3.x. */
const TLS_HANDSHAKE = 0x1603;

/** @param magic the first four bytes, which are not QEMU_VM_FILE_MAGIC */
export function refuseMagic(location: StreamPosition, magic: number): StreamError {
  if (magic === wire.MULTIFD_MAGIC) {
    return location.error('E_STREAM_MULTIFD', 'A multifd data channel connected');
  }
  const seen = `0x${magic.toString(16).padStart(8, '0')}`;
  const hint = magic >>> 16 === TLS_HANDSHAKE ? ', the begin of a TLS handshake' : '';
  return location.error('E_STREAM_MAGIC', `The first bytes are ${seen}${hint}`);
}

/** Lengths that QEMU's destination demands of commands; commands of variable length are refused. */
const LENGTHS: Readonly<Record<number, number>> = {
  [wire.MIG_CMD_OPEN_RETURN_PATH]: 0,
  [wire.MIG_CMD_PING]: 4,
  [wire.MIG_CMD_SWITCHOVER_START]: 0,
};

const REFUSED: Readonly<Record<number, StreamErrorCode>> = {
  [wire.MIG_CMD_POSTCOPY_ADVISE]: 'E_STREAM_POSTCOPY',
  [wire.MIG_CMD_POSTCOPY_LISTEN]: 'E_STREAM_POSTCOPY',
  [wire.MIG_CMD_POSTCOPY_RUN]: 'E_STREAM_POSTCOPY',
  [wire.MIG_CMD_POSTCOPY_RAM_DISCARD]: 'E_STREAM_POSTCOPY',
  [wire.MIG_CMD_PACKAGED]: 'E_STREAM_POSTCOPY',
  [wire.MIG_CMD_ENABLE_COLO]: 'E_STREAM_COLO',
  [wire.MIG_CMD_POSTCOPY_RESUME]: 'E_STREAM_POSTCOPY',
  [wire.MIG_CMD_RECV_BITMAP]: 'E_STREAM_POSTCOPY',
};

/**
 * Returns the refusal of a command; undefined if it belongs to precopy and has the right length.
 */
export function refuseCommand(
  location: StreamPosition,
  command: number,
  length: number,
): StreamError | undefined {
  const code = REFUSED[command];
  if (code !== undefined) return location.error(code, `Command ${wire.COMMAND_NAMES[command]}`);
  const expected = LENGTHS[command];
  if (expected === undefined) {
    return location.error('E_STREAM_COMMAND', `Unknown command ${command}`);
  }
  if (expected === length) return undefined;
  const name = wire.COMMAND_NAMES[command];
  return location.error('E_STREAM_COMMAND', `${name} of ${length} bytes instead of ${expected}`);
}
