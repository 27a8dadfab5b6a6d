/**
 * The socket by which a relay is asked to read its file again: a connection is the request, and a
 * line of JSON is the answer. Its name is made of the file's path: with the file, it is found.
 *
 *     HOME/.relays/1f0c….sock      0600, in a folder of the user's own
 */
import { createHash } from 'node:crypto';
import { chmodSync, realpathSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { makeOwnFolder } from '../../shadow/index.ts';
import { toFailure, UmbraError } from '../failure/failure.ts';
import { SOCKET_PATH_BYTES_MAX } from '../host/linux.ts';
import { type Reloaded, relayReloadSchema } from '../protocol/reload.ts';

const FOLDER = '.relays';
const NAME_CHARS = 16;

/**
 * Returns the socket of the relay that a file configures.
 * @param home folder of all clusters; no cluster's name begins with a dot
 */
export function controlSocket(home: string, file: string): string {
  const name = createHash('sha256').update(realpathSync(file)).digest('hex').slice(0, NAME_CHARS);
  return join(home, FOLDER, `${name}.sock`);
}

/**
 * Listens for requests until it is closed.
 * @param reload reads the file again @throws the failure that is answered
 * @returns what ends it
 */
export async function openControl(
  socket: string,
  reload: () => Reloaded,
): Promise<{ close(): void }> {
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES_MAX) {
    const message = `${socket} is too long for a unix socket (${SOCKET_PATH_BYTES_MAX} bytes)`;
    throw new UmbraError({ code: 'E_RELAY_CONTROL', message });
  }
  makeOwnFolder(dirname(socket));
  rmSync(socket, { force: true }); // of a relay that has died: this one has its addresses
  const server = createServer((connection) => {
    connection.on('error', () => {});
    connection.end(`${JSON.stringify(answer(reload))}\n`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const message = `cannot listen on ${socket}: ${cause.code}`;
      reject(new UmbraError({ code: 'E_RELAY_CONTROL', message }, cause));
    });
    server.listen({ path: socket }, resolve);
  });
  chmodSync(socket, 0o600);
  return { close: () => server.close() };
}

function answer(reload: () => Reloaded) {
  try {
    return reload();
  } catch (error) {
    return { failure: toFailure(error, { where: 'reload' }) };
  }
}

/**
 * Asks a relay to read its file again.
 * @throws UmbraError E_RELOAD_OFF: none listens; what the relay answers
 */
export async function askReload(socket: string): Promise<Reloaded> {
  const connection = connect({ path: socket, allowHalfOpen: true });
  const answered = await text(connection).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ECONNREFUSED') throw cause;
    const message = 'no relay of this user was started with this file';
    throw new UmbraError({ code: 'E_RELOAD_OFF', message }, cause);
  });
  const parsed = relayReloadSchema.safeParse(parseLine(answered));
  if (!parsed.success) {
    const message = 'the relay ended before it had answered, or is of another version';
    throw new UmbraError({ code: 'E_RELOAD_OFF', message }, parsed.error);
  }
  if ('failure' in parsed.data) throw UmbraError.received(parsed.data.failure);
  return parsed.data;
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
