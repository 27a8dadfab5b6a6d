/**
 * Brings a shadow back to life in a QEMU that was started with `-S -incoming defer`.
 *
 *     map      main RAM is already mapped, from the shadow's image or its base's: send device state,
 *              and of main RAM only what differs from the base
 *     stream   send all of it
 *
 * Either way QEMU ends loaded and paused; `cont` is the barrier's business.
 */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { QmpClient } from '../../qmp/index.ts';
import {
  openShadow,
  readShadowFile,
  SealedRam,
  type SealedShadow,
  type ShadowManifest,
} from '../../shadow/index.ts';
import { UmbraError } from '../failure.ts';
import { type EncodeOptions, encodePrecopy, type PageSource } from '../stream/encoder.ts';
import type { LoadResult, RestoreMode } from './messages.ts';

/** A load that takes longer than this hangs. */
const LOAD_DEADLINE_MS = 120_000;

/**
 * @param directory a folder of the member's own, for the socket
 * @throws UmbraError E_LOAD_FAILED with QEMU's reason
 */
export async function loadShadow(
  qmp: QmpClient,
  directory: string,
  shadowDirectory: string,
  mode: RestoreMode,
): Promise<LoadResult> {
  const startedAt = performance.now();
  const shadow = await openShadow(shadowDirectory);
  const path = join(directory, 'incoming.sock');
  rmSync(path, { force: true });
  const loaded = incomingEnd(qmp);
  loaded.catch(() => {}); // it may fail before it is awaited
  const capabilities = [{ capability: 'events', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
  await qmp.execute('migrate-incoming', { uri: `unix:${path}` });
  try {
    const bytes = await send(path, shadow, mode, loaded);
    await loaded;
    return { bytes, durationMs: performance.now() - startedAt };
  } finally {
    rmSync(path, { force: true });
  }
}

/** The main RAM block: the one a `map` restore does not send. */
export function mainRamIndex(manifest: ShadowManifest): number {
  const { blocks } = manifest;
  return blocks.reduce(
    (largest, { bytes }, index) => (bytes > (blocks[largest]?.bytes ?? 0) ? index : largest),
    0,
  );
}

async function send(
  path: string,
  shadow: SealedShadow,
  mode: RestoreMode,
  loaded: Promise<void>,
): Promise<number> {
  const { directory, manifest } = shadow;
  const { pageSize } = manifest;
  const ram = await SealedRam.open(shadow);
  const socket = connect(path);
  const broken = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  try {
    await once(socket, 'connect');
    socket.resume(); // the destination may answer; nothing it says matters here
    socket.on('error', () => {}); // QEMU tells why over QMP
    const blocks = manifest.blocks.map(({ idstr, bytes }) => {
      return { idstr, usedLength: bytes, pageSize };
    });
    const source: PageSource = {
      blocks,
      read: (block, offset, into, at) => ram.read(block, offset, into, at),
    };
    const stream = encodePrecopy(source, {
      configuration: await readShadowFile(directory, manifest.configuration),
      deviceState: await readShadowFile(directory, manifest.deviceState),
      vmdesc: await vmdescOf(directory, manifest),
      ...(mode === 'map' && inPlace(shadow, ram)),
    });
    let bytes = 0;
    for (const chunk of stream) {
      bytes += chunk.length;
      if (!(await write(socket, chunk, broken))) break;
    }
    socket.end();
    await loaded;
    return bytes;
  } finally {
    ram.close();
    socket.destroy();
  }
}

/** Of main RAM, mapped, nothing or what differs from the base is to be sent. */
function inPlace({ manifest }: SealedShadow, ram: SealedRam): Partial<EncodeOptions> {
  const main = mainRamIndex(manifest);
  if (manifest.blocks[main]?.kind === 'full') return { omit: new Set([main]) };
  return { skip: (block, offset) => block === main && ram.isAsBase(block, offset) };
}

/** @returns false when the peer has gone; QMP knows the reason */
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

/** Resolves when QEMU has loaded everything; QEMU exits when it could not. */
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
