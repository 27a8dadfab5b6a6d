/** Verifies a shadow on disk: every byte of its containers, and that they are all that it needs. */
import { join } from 'node:path';
import { MANIFEST_LIMIT_BYTES, sha256Of, unwrap } from '../envelope.ts';
import { ShadowError } from '../errors.ts';
import { SHADOW_FORMAT } from '../manifest.ts';
import { SHADOW_FILE } from '../names.ts';
import { shadowFiles } from '../sealed-shadow.ts';
import type { DurableManifest } from './durable-manifest.ts';
import {
  CONTAINER,
  DURABLE_FILE,
  readContained,
  readDurable,
  type ShadowName,
} from './shadow-folder.ts';

/**
 * Reads every byte of a shadow on disk.
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_MANIFEST_FEATURE,
 * E_DURABLE_IO
 */
export async function verifyDurable(
  target: string,
  name: ShadowName,
  onContent: (bytes: number) => void,
): Promise<void> {
  const manifest = await readDurable(target, name);
  for (const contained of manifest.files) {
    const parts: Buffer[] = [];
    const whole = contained.file === SHADOW_FILE;
    if (whole && contained.bytes > MANIFEST_LIMIT_BYTES) {
      const path = join(target, `${SHADOW_FILE}${CONTAINER}`);
      throw new ShadowError('E_MANIFEST_INVALID', `${path} is of no manifest`, { path });
    }
    await readContained(target, name.shadow, contained, {
      length: () => {},
      write: (content, at, { bytes }) => {
        if (whole) parts.push(content.subarray(at, at + bytes));
      },
      onContent,
    });
    if (whole) requireNamed(manifest, Buffer.concat(parts), join(target, DURABLE_FILE));
  }
  if (manifest.files.some(({ file }) => file === SHADOW_FILE)) return;
  const path = join(target, DURABLE_FILE);
  throw new ShadowError('E_EPOCH_CORRUPT', `${path} lists no ${SHADOW_FILE}`, { path });
}

/**
 * Checks the shadow's own manifest: the epoch must name it, and it lists the files that have to be
 * there, of which a fetch would miss any other.
 * @param path of the durable manifest, for messages
 */
function requireNamed(durable: DurableManifest, text: Buffer, path: string): void {
  const corrupt = (why: string) => new ShadowError('E_EPOCH_CORRUPT', `${path}: ${why}`, { path });
  if (sha256Of(text) !== durable.shadow) {
    throw corrupt(`its ${SHADOW_FILE} is not what the epoch names`);
  }
  const shadow = unwrap(text.toString('utf8'), SHADOW_FORMAT, path);
  const wanted = [...shadowFiles(shadow).map(({ file }) => file), SHADOW_FILE].sort();
  const there = durable.files.map(({ file }) => file).sort();
  if (wanted.join() !== there.join()) throw corrupt(`it lists ${there}, not ${wanted}`);
  const { base } = durable;
  if (shadow.base?.round !== base?.round || shadow.base?.shadow !== base?.shadow) {
    throw corrupt('it names another base than its shadow');
  }
}
