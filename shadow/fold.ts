/**
 * Folding: a delta and its base become a full shadow, which later epochs are taken against.
 * Otherwise every epoch would store again what has changed since the base.
 *
 *     verify ──▶ read delta and base ──▶ full images, staged like a round's ──▶ verify ──▶ seal
 *
 * The new shadow gets checksums and stamps of its own, which vouch for whatever was copied. Files
 * that were touched since their seal are therefore verified before the copy, and again after it,
 * because they may be touched while they are read.
 *
 * Until the epoch's manifest is replaced (catalogue.ts) nothing refers to the new shadow;
 * afterwards nothing of that epoch refers to the old one. A crash in between leaves a folder that
 * is collected.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { alignedBuffer } from './aligned-buffer.ts';
import { SealedRam } from './sealed-ram.ts';
import { cutOf, readShadowFile, type SealedShadow } from './sealed-shadow.ts';
import { type Sealed, type StagingLocation, StagingShadow } from './staging.ts';
import { IGNORE_STEPS, type OnStep } from './steps.ts';
import { verifyShadow } from './verify.ts';

/** Pages copied between two turns of the event loop: 1 MiB. */
const PAGES_A_TURN = 256;

/**
 * Writes a full shadow with the content of a delta, which stays as it is.
 * @param onStep called after every step, for tests that end the process there
 * @throws ShadowError E_STORE_NO_ROOM, E_STORE_IO, E_EPOCH_CORRUPT (naming the file); or the
 * signal's reason. Nothing is left behind.
 */
export async function foldShadow(
  shadow: SealedShadow,
  location: StagingLocation,
  signal: AbortSignal,
  onStep: OnStep = IGNORE_STEPS,
): Promise<Sealed> {
  const { directory, manifest } = shadow;
  const { pageSize, identity, vmdesc } = manifest;
  const layout = manifest.blocks.map(({ idstr, bytes }) => ({ idstr, length: bytes }));
  await verifyShadow(shadow, 'changed');
  const staged = await StagingShadow.reserve(location, layout, pageSize);
  try {
    onStep('fold/staged');
    await copyPages(shadow, staged, signal);
    onStep('fold/copied');
    await verifyShadow(shadow, 'changed');
    const sealed = await staged.seal({
      identity,
      configuration: await readShadowFile(directory, manifest.configuration),
      deviceState: await readShadowFile(directory, manifest.deviceState),
      cut: cutOf(manifest),
      vmdesc: vmdesc && (await readShadowFile(directory, vmdesc)).toString('utf8'),
    });
    onStep('fold/sealed');
    return sealed;
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

async function copyPages(
  shadow: SealedShadow,
  staged: StagingShadow,
  signal: AbortSignal,
): Promise<void> {
  const { pageSize, blocks } = shadow.manifest;
  const streamed = blocks.map(({ idstr, bytes }) => ({ idstr, usedLength: bytes }));
  const images = staged.match(streamed);
  const ram = await SealedRam.open(shadow);
  const pages = alignedBuffer(PAGES_A_TURN * pageSize);
  try {
    for (const [block, { bytes }] of blocks.entries()) {
      const image = images[block];
      for (let offset = 0; offset < bytes; offset += pageSize) {
        const at = offset % pages.length;
        if (at === 0) {
          image?.flush(); // pages read before are borrowed until here
          signal.throwIfAborted();
          await nextTurn();
        }
        if (ram.read(block, offset, pages, at)) image?.writePage(offset, pages, at);
      }
      image?.flush();
    }
  } finally {
    ram.close();
  }
}
