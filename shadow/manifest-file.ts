/** Reads the file of a manifest, or of anything as small: its length is looked at before it is read. */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { MANIFEST_LIMIT_BYTES } from './envelope.ts';
import { ShadowError } from './errors.ts';

/** @throws ShadowError E_MANIFEST_INVALID when it is longer than any; and what the system says */
export async function readManifestFile(path: string): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    requireShort(path, size);
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}

/**
 * The same of a file in memory (tmpfs). Nothing waits for a disk there: it takes some microseconds, where six
 * turns of Node's thread pool take a millisecond, and a restore waits for several such files.
 */
export function readManifestInMemory(path: string): string {
  const fd = openSync(path, 'r');
  try {
    requireShort(path, fstatSync(fd).size);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

function requireShort(path: string, size: number): void {
  if (size <= MANIFEST_LIMIT_BYTES) return;
  const message = `${path}: ${size} bytes are more than any manifest has`;
  throw new ShadowError('E_MANIFEST_INVALID', message, { path });
}
