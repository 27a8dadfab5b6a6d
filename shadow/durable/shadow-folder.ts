/**
 * One member's shadow on disk: a folder with a container of each of its files.
 *
 *     ROUND/MEMBER/FILE.umbra           the container of FILE (container.ts)
 *     ROUND/MEMBER/FILE.umbra.PID.part  a container that process PID is writing
 *     ROUND/MEMBER/durable.json         last: the shadow is whole, and these are its files
 *
 * Nothing here knows what a file means.
 */
import { join } from 'node:path';
import { unwrap } from '../envelope.ts';
import { ShadowError } from '../errors.ts';
import { readManifestFile } from '../manifest-file.ts';
import { footersAgree, keyOf } from './container.ts';
import { type ContainedFile, DURABLE_FORMAT, type DurableManifest } from './durable-manifest.ts';
import { type ContentSink, readContainer } from './reader.ts';

export const CONTAINER = '.umbra';
export const DURABLE_FILE = 'durable.json';

/** Shadow of a member, by the round folder it is in and by its digest. */
export interface ShadowName {
  readonly round: string;
  readonly member: string;
  /** SHA-256 of its shadow.json. */
  readonly shadow: string;
}

/**
 * Reads the manifest of a shadow on disk.
 * @throws ShadowError E_EPOCH_CORRUPT (it is not there, or another shadow's), E_MANIFEST_INVALID,
 * E_MANIFEST_VERSION, E_MANIFEST_FEATURE
 */
export async function readDurable(target: string, name: ShadowName): Promise<DurableManifest> {
  const path = join(target, DURABLE_FILE);
  const text = await readManifestFile(path).catch((cause: unknown) => {
    if (cause instanceof ShadowError) throw cause;
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  });
  const manifest = unwrap(text, DURABLE_FORMAT, path);
  const { round, member, shadow } = manifest;
  if (round !== name.round || member !== name.member || shadow !== name.shadow) {
    const message = `${path} is not of the shadow the epoch names`;
    throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
  }
  return manifest;
}

/** Returns the memory that a shadow takes when it is fetched, bytes. */
export function contentBytes({ files }: DurableManifest): number {
  return files.reduce((sum, { footer }) => sum + footer.contentBytes, 0);
}

/**
 * Reads the container of one file, and checks that it is the one its manifest describes.
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_VERSION, E_DURABLE_IO; errors of the sink
 */
export async function readContained(
  folder: string,
  shadow: string,
  { file, bytes, footer }: ContainedFile,
  sink: ContentSink,
): Promise<void> {
  const path = join(folder, `${file}${CONTAINER}`);
  const checked: ContentSink = {
    write: sink.write.bind(sink),
    onContent: (count) => sink.onContent?.(count),
    length: (found) => {
      if (found === bytes) return sink.length(bytes);
      const message = `${path} holds a file of ${found} bytes instead of ${bytes}`;
      throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
    },
  };
  const found = await readContainer(path, keyOf(shadow, file), checked);
  if (footersAgree(found, footer)) return;
  const message = `${path} is not the container its manifest describes`;
  throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
}
