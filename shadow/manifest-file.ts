/** Reads the file of a manifest, or of anything as small: its length is looked at before it is read. */
import { open } from 'node:fs/promises';
import { MANIFEST_LIMIT_BYTES } from './envelope.ts';
import { ShadowError } from './errors.ts';

/** @throws ShadowError E_MANIFEST_INVALID when it is longer than any; and what the system says */
export async function readManifestFile(path: string): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    if (size <= MANIFEST_LIMIT_BYTES) return await handle.readFile('utf8');
    const message = `${path}: ${size} bytes are more than any manifest has`;
    throw new ShadowError('E_MANIFEST_INVALID', message, { path });
  } finally {
    await handle.close();
  }
}
