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
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient, QmpError } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';

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
export function connectWhenThere(
  path: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const drop = (socket: Socket) => socket.destroy();
  return whenThere(path, deadlineMs, signal, tryConnect, drop);
}

/**
 * Connects to the monitor of a QEMU that has just been started. No other connection is made to see whether it
 * is there: a QEMU whose first client hangs up while it starts can die of that (10.0.2, once in some
 * thousand; object_get_class(NULL) in chardev/char-socket.c).
 * @throws as `connectWhenThere`, and as `QmpClient.connect` does
 */
export function monitorWhenThere(
  path: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<QmpClient> {
  const attempt = async (): Promise<QmpClient | NodeJS.ErrnoException> => {
    try {
      return await QmpClient.connect(path, { timeoutMs: deadlineMs, signal });
    } catch (error) {
      const absent = error instanceof QmpError && error.code === 'E_QMP_CONNECT';
      if (absent && error.cause instanceof Error) return error.cause;
      throw error;
    }
  };
  return whenThere(path, deadlineMs, signal, attempt, (qmp) => qmp.close());
}

/**
 * @param attempt has the error, if nobody listens
 * @param drop of what comes too late
 */
async function whenThere<T extends object>(
  path: string,
  deadlineMs: number,
  signal: AbortSignal,
  attempt: (path: string) => Promise<T | NodeJS.ErrnoException>,
  drop: (found: T) => void,
): Promise<T> {
  const end = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
  const folder = watch(dirname(path));
  try {
    for (;;) {
      const changed = changeOf(folder, basename(path), end);
      changed.catch(() => {}); // it is not always awaited
      const found = await attempt(path);
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
    if (error instanceof QmpError) throw error;
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
