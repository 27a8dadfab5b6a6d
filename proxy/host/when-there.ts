/**
 * Connects to a unix socket of a QEMU that is just being started, as soon as it is there. An
 * example is the socket from which a restored QEMU takes its state, `-incoming
 * unix:FOLDER/incoming.sock`:
 *
 *     QEMU   ── monitor ── machine ── bind, listen ──┬── main loop: reads state, monitor answers
 *     proxy  ────── watches the folder ──────────────┴─▶ connects, writes
 *
 * So the state is there when QEMU first reads, and nothing waits for QEMU's monitor.
 */
import { on, once } from 'node:events';
import { type FSWatcher, watch } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { UmbraError } from '../failure/failure.ts';

/** Time between two attempts: the kernel tells of a socket's bind(2), but not of its listen(2). */
const LISTEN_RETRY_MS = 1;

/**
 * Connects to a unix socket as soon as a process listens on it.
 * @throws UmbraError E_LOAD_FAILED after the deadline; the signal's reason
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
  /** The error of an attempt that failed for another reason than that the socket is not there. */
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
    const message = `QEMU did not start in time: no process listens on ${path}`;
    throw new UmbraError({ code: 'E_LOAD_FAILED', message }, error);
  } finally {
    folder.close();
  }
}

/**
 * Waits until a file of a folder changes. A QEMU that starts makes other files in the same folder,
 * and writes a log there: changes of those are ignored.
 */
async function changeOf(folder: FSWatcher, name: string, signal: AbortSignal): Promise<void> {
  const changes = on(folder, 'change', { signal, close: ['close'] });
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
