/** Verifies the content of a sealed shadow against its digests and checksums. */
import { join } from 'node:path';
import { verifyImage } from './image-reader.ts';
import { readBlocks, readShadowFile, requireBase, type SealedShadow } from './sealed-shadow.ts';
import { fileIsUntouched, isUntouched } from './untouched.ts';

/**
 * Extent of a verification: `changed` reads only images that the kernel reports as touched since
 * the seal; `all` reads all of them.
 */
export type VerifyMode = 'changed' | 'all';

/**
 * Verifies a shadow and its base.
 * @throws ShadowError E_EPOCH_CORRUPT, naming the first file whose content is wrong;
 * E_MANIFEST_VERSION
 */
export async function verifyShadow(shadow: SealedShadow, mode: VerifyMode): Promise<void> {
  if (mode === 'changed' && (await isUntouched(shadow))) return;
  if (shadow.base !== undefined) await verifyShadow(shadow.base, mode);
  const { directory, manifest } = shadow;
  const { configuration, deviceState, vmdesc } = manifest;
  const small = [configuration, deviceState, ...(vmdesc === undefined ? [] : [vmdesc])];
  for (const file of small) await readShadowFile(directory, file);
  for (const { block, index } of await readBlocks(shadow)) {
    if (block.kind === 'delta') requireBase(shadow, block);
    if (mode === 'changed' && (await fileIsUntouched(directory, block))) continue;
    await verifyImage(join(directory, block.file), index, block.kind);
  }
}
