/**
 * Loads a shadow into a QEMU that was started with `-S -incoming unix:…`.
 *
 *     map      main RAM is already mapped, from the shadow's image or its base's: send device
 *              state, and of main RAM only what differs from the base
 *     stream   send all of it
 *
 * Either way QEMU ends loaded and paused; `cont` follows at the barrier.
 */

import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { QmpClient } from '../../../qmp/index.ts';
import {
  mainRamIndex,
  openShadow,
  readShadowFile,
  SealedRam,
  type ShadowManifest,
} from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import type { RestoreMode } from '../../protocol/member.ts';
import { type EncodeOptions, encodePrecopy, type PageSource } from '../../stream/encoder.ts';

/** A load that takes longer than this hangs. */
export const LOAD_DEADLINE_MS = 120_000;

/** Bytes of a stream that are made before there is a QEMU to take it. */
const AHEAD_BYTES = 32 * 2 ** 20;

/** A shadow, read as far as it can be before there is a QEMU to load it. */
export interface ReadyLoad {
  readonly ram: SealedRam;
  readonly source: PageSource;
  readonly options: EncodeOptions;
}

/**
 * Opens a shadow and reads all but its pages, while QEMU starts.
 * @returns the parts of its stream; the caller closes `ram`
 */
export async function readyLoad(shadowDirectory: string, mode: RestoreMode): Promise<ReadyLoad> {
  const shadow = await openShadow(shadowDirectory);
  const { directory, manifest } = shadow;
  const { pageSize } = manifest;
  const main = mainRamIndex(manifest);
  const isDelta = manifest.blocks[main]?.kind === 'delta';
  const omit = new Set(mode === 'map' && !isDelta ? [main] : []);
  const ram = await SealedRam.open(shadow, omit);
  try {
    const blocks = manifest.blocks.map(({ idstr, bytes }) => {
      return { idstr, usedLength: bytes, pageSize };
    });
    const only = new Map(mode === 'map' && isDelta ? [[main, ram.ownPages(main)]] : []);
    const options = {
      configuration: await readShadowFile(directory, manifest.configuration),
      deviceState: await readShadowFile(directory, manifest.deviceState),
      vmdesc: await vmdescOf(directory, manifest),
      omit,
      only,
    };
    const read: PageSource['read'] = (block, offset, into, at) => ram.read(block, offset, into, at);
    return { ram, source: { blocks, read }, options };
  } catch (error) {
    ram.close();
    throw error;
  }
}

/** Encodes a shadow's stream, its beginning at once: QEMU takes time to start, and then waits. */
export async function encodeAhead({ source, options }: ReadyLoad): Promise<Iterable<Uint8Array>> {
  const chunks = encodePrecopy(source, options);
  const ahead: Uint8Array[] = [];
  for (let bytes = 0; bytes < AHEAD_BYTES; ) {
    const { value, done } = chunks.next();
    if (done === true) return ahead;
    ahead.push(value);
    bytes += value.length;
    await nextTurn(); // QEMU may be there already
  }
  return chained(ahead, chunks);
}

function* chained<T>(first: Iterable<T>, rest: Iterable<T>): Generator<T> {
  yield* first;
  yield* rest;
}

/**
 * Writes a shadow's stream into QEMU, whose monitor tells whether it was loaded.
 * @returns bytes written; fewer than there are if QEMU has hung up
 */
export async function feedShadow(socket: Socket, chunks: Iterable<Uint8Array>): Promise<number> {
  const broken = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.resume(); // the destination may answer; its answers do not matter here
  socket.on('error', () => {}); // QEMU reports the cause over QMP
  let bytes = 0;
  for (const chunk of chunks) {
    bytes += chunk.length;
    if (!(await write(socket, chunk, broken))) break;
  }
  socket.end();
  return bytes;
}

/**
 * Waits until QEMU has loaded everything and is paused.
 * @throws UmbraError E_LOAD_FAILED
 */
export async function awaitLoaded(qmp: QmpClient): Promise<void> {
  const end = incomingEnd(qmp);
  end.catch(() => {}); // it may fail before it is awaited
  const capabilities = [{ capability: 'events', state: true }];
  const options = { timeoutMs: LOAD_DEADLINE_MS };
  // QEMU takes them in turn: either it is over by the answer, or there will be an event.
  const [, { status }] = await Promise.all([
    qmp.execute('migrate-set-capabilities', { capabilities }, options),
    qmp.execute('query-status', undefined, options),
  ]).catch(loadFailed);
  if (status === 'inmigrate') await end;
}

/** Fails for a monitor that has closed during a load. @throws UmbraError E_LOAD_FAILED */
export function loadFailed(cause: unknown): never {
  const message = 'QEMU exited while it loaded the shadow; its log says why';
  throw new UmbraError({ code: 'E_LOAD_FAILED', message }, cause);
}

/** Writes a chunk. @returns false when the peer has gone; QMP knows the reason */
async function write(socket: Socket, chunk: Uint8Array, broken: Promise<void>): Promise<boolean> {
  if (!socket.write(chunk)) await Promise.race([once(socket, 'drain').catch(() => {}), broken]);
  return !socket.destroyed;
}

async function vmdescOf(
  shadowDirectory: string,
  { vmdesc }: ShadowManifest,
): Promise<string | undefined> {
  return vmdesc && (await readShadowFile(shadowDirectory, vmdesc)).toString('utf8');
}

/** Waits until QEMU has loaded everything. QEMU exits when it could not. */
function incomingEnd(qmp: QmpClient): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      const message = `the VM did not load within ${LOAD_DEADLINE_MS} ms`;
      finish(new UmbraError({ code: 'E_LOAD_FAILED', message }));
    }, LOAD_DEADLINE_MS);
    const unsubscribe = qmp.onEvent(({ name, data }) => {
      if (name !== 'MIGRATION') return;
      if (data.status === 'completed') finish();
      if (data.status === 'failed') {
        const message = 'QEMU could not load the shadow; its log says why';
        finish(new UmbraError({ code: 'E_LOAD_FAILED', message }));
      }
    });
    void qmp.closed.then((cause) => {
      const message = 'QEMU exited while it loaded the shadow; its log says why';
      finish(new UmbraError({ code: 'E_LOAD_FAILED', message }, cause));
    });
    function finish(error?: Error): void {
      clearTimeout(timer);
      unsubscribe();
      if (error === undefined) resolve();
      else reject(error);
    }
  });
}
