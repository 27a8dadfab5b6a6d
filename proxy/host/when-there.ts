/**
 * The socket a QEMU that is to be restored takes its state from: `-incoming unix:FOLDER/incoming.sock`.
 *
 *     QEMU   ──chardevs (monitor)── machine ──── bind, listen ──┬── main loop: state is read, monitor answers
 *     proxy  ──────── watches the folder ───────────────────────┴─▶ connects, writes
 *
 * So state is there when QEMU first looks, and nothing waits for its monitor.
 */
import { on, once } from 'node:events';
import { type FSWatcher, watch } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { UmbraError } from '../failure/failure.ts';

/** Between a socket's bind(2) and its listen(2) there is nothing to be notified of. */
const LISTEN_RETRY_MS = 1;

/**
 * Connects to a unix socket as soon as somebody listens.
 * @throws UmbraError E_LOAD_FAILED after the deadline; whatever the signal was aborted with
 */
export function connectWhenThere(
  path: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const drop = (socket: Socket) => socket.destroy();
  return whenThere(path, deadlineMs, signal, tryConnect, drop);
}

/**
 * Repeats `attempt` whenever the socket's folder changes, until it succeeds.
 * @param attempt returns the error if nothing listens, and throws any other
 * @param drop disposes of what was found after the deadline
 * @throws UmbraError E_LOAD_FAILED after the deadline; what `attempt` throws; the signal's reason
 */
export async function whenThere<T extends object>(
  path: string,
  deadlineMs: number,
  signal: AbortSignal,
  attempt: (path: string) => Promise<T | NodeJS.ErrnoException>,
  drop: (found: T) => void,
): Promise<T> {
  const end = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
  const folder = watch(dirname(path));
  /** What an attempt failed with for another reason than that the socket is not there. */
  let own: unknown;
  try {
    for (;;) {
      const changed = changeOf(folder, basename(path), end);
      changed.catch(() => {}); // it is not always awaited
      const found = await attempt(path).catch((error: unknown) => {
        own = error;
        throw error;
      });
      if (found instanceof Error) {
        await (found.code === 'ECONNREFUSED'
          ? delay(LISTEN_RETRY_MS, undefined, { signal: end })
          : changed);
      } else if (end.aborted) {
        drop(found);
      } else return found;
      end.throwIfAborted();
    }
  } catch (error) {
    signal.throwIfAborted();
    if (own !== undefined && error === own) throw error;
    const message = `QEMU has not come: nobody listens on ${path}`;
    throw new UmbraError({ code: 'E_LOAD_FAILED', message }, error);
  } finally {
    folder.close();
  }
}

/** A QEMU that starts makes other sockets, and writes a log, in the same folder: those are not looked at. */
async function changeOf(folder: FSWatcher, name: string, signal: AbortSignal): Promise<void> {
  const changes = on(folder, 'change', { signal, close: ['close'] }); // nobody waits for a closed one
  for await (const [, changed] of changes) if (changed === name) return;
}

async function tryConnect(path: string): Promise<Socket | NodeJS.ErrnoException> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return socket;
  } catch (error) {
    socket.destroy();
    return error as NodeJS.ErrnoException;
  }
}
