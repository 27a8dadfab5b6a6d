/**
 * The socket a QEMU that is to be restored takes its state from: `-incoming unix:FOLDER/incoming.sock`.
 *
 *     QEMU   ──chardevs (monitor)── machine ──── bind, listen ──┬── main loop: state is read, monitor answers
 *     proxy  ──────── watches the folder ───────────────────────┴─▶ connects, writes
 *
 * So state is there when QEMU first looks, and nothing waits for its monitor.
 */
import { once } from 'node:events';
import { watch } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { UmbraError } from '../failure.ts';

/** Between a socket's bind(2) and its listen(2) there is nothing to be notified of. */
const LISTEN_RETRY_MS = 1;

/** @param directory the member's own; its length is limited by config.ts */
export function incomingSocket(directory: string): string {
  return join(directory, 'incoming.sock');
}

/**
 * Connects to a unix socket as soon as somebody listens.
 * @throws UmbraError E_LOAD_FAILED after the deadline; whatever the signal was aborted with
 */
export async function connectWhenThere(
  path: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const end = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
  const folder = watch(dirname(path));
  try {
    for (;;) {
      const changed = once(folder, 'change', { signal: end });
      changed.catch(() => {}); // it is not always awaited
      const found = await tryConnect(path);
      if (found instanceof Error) {
        await (found.code === 'ECONNREFUSED'
          ? delay(LISTEN_RETRY_MS, undefined, { signal: end })
          : changed);
      } else if (end.aborted) {
        found.destroy();
      } else return found;
      end.throwIfAborted();
    }
  } catch (error) {
    signal.throwIfAborted();
    const message = `QEMU does not take its state: nobody listens on ${path}`;
    throw new UmbraError({ code: 'E_LOAD_FAILED', message }, error);
  } finally {
    folder.close();
  }
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
