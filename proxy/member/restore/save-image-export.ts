/** Writes an epoch's shadow as a save image, which libvirt restores. */
import { open, rename, rm } from 'node:fs/promises';
import { openShadow, verifyShadow } from '../../../shadow/index.ts';
import { UmbraError } from '../../failure/failure.ts';
import { saveImageHead } from '../../libvirt/save-image.ts';
import { encodePrecopy } from '../../stream/encoder.ts';
import { readyLoad } from './load.ts';

export interface ExportOptions {
  readonly shadowDirectory: string;
  /** The digest that its epoch names; undefined if that was checked already. */
  readonly sha256?: string | undefined;
  readonly xml: string;
  /** The file to be made; an existing one is replaced. */
  readonly path: string;
}

/**
 * Writes the image.
 * @returns bytes written
 * @throws UmbraError E_LIBVIRT_XML, E_EXPORT; ShadowError: the shadow is damaged. No file is left.
 */
export async function exportSaveImage(settings: ExportOptions): Promise<number> {
  const { shadowDirectory, sha256, xml, path } = settings;
  const head = saveImageHead(xml);
  await verifyShadow(await openShadow(shadowDirectory, sha256), 'changed');
  const { ram, source, options } = await readyLoad(shadowDirectory, 'stream');
  const draft = `${path}.part`;
  try {
    return await writeSynced(draft, path, [head], encodePrecopy(source, options));
  } catch (cause) {
    await rm(draft, { force: true });
    const { code } = cause as NodeJS.ErrnoException;
    if (code === undefined || cause instanceof UmbraError) throw cause;
    throw new UmbraError({ code: 'E_EXPORT', message: `cannot write ${path}: ${code}` }, cause);
  } finally {
    ram.close();
  }
}

async function writeSynced(
  draft: string,
  path: string,
  ...parts: readonly Iterable<Uint8Array>[]
): Promise<number> {
  await rm(draft, { force: true });
  const file = await open(draft, 'wx', 0o600);
  let bytes = 0;
  try {
    for (const part of parts) {
      for (const chunk of part) {
        await file.writeFile(chunk);
        bytes += chunk.length;
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  return bytes;
}
