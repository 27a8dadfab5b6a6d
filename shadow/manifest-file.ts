/**
 * Reads the file of a manifest, or another of that size: its length is checked before it is read.
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { MANIFEST_LIMIT_BYTES } from './envelope.ts';
import { ShadowError } from './errors.ts';

/**
 * Reads a manifest from a disk.
 * @throws ShadowError E_MANIFEST_INVALID if it is longer than any manifest; errors of the system
 */
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
 * Reads a manifest from memory (tmpfs), synchronously: nothing waits for a disk there. That takes
 * some microseconds, where six turns of Node's thread pool take a millisecond, and a restore waits
 * for several such files.
 * @throws as `readManifestFile` does
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
