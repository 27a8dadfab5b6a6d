/** A sealed shadow, opened to be verified or restored. It is never written to again. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestFile, ImageReader } from './digest.ts';
import { ShadowError } from './errors.ts';
import {
  decodeManifest,
  type ShadowFile,
  type ShadowManifest,
  sha256Of,
  shadowManifestSchema,
} from './manifest.ts';
import { takeWitness, witnessesAgree } from './witness.ts';

/** `changed` reads only files the kernel reports as touched since the seal; `all` reads all. */
export type VerifyMode = 'changed' | 'all';

/**
 * Reads a shadow's manifest and holds it against the digest its epoch gives.
 * @throws ShadowError E_EPOCH_CORRUPT, E_MANIFEST_INVALID, E_MANIFEST_VERSION
 */
export async function readShadow(directory: string, sha256?: string): Promise<ShadowManifest> {
  const path = join(directory, 'shadow.json');
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  });
  if (sha256 !== undefined && sha256Of(text) !== sha256) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} is not what the epoch names`, { path });
  }
  return decodeManifest(text, shadowManifestSchema, path);
}

/** Files of a shadow, RAM images included. */
export function shadowFiles(manifest: ShadowManifest): ShadowFile[] {
  const { blocks, configuration, deviceState, vmdesc } = manifest;
  return [...blocks, configuration, deviceState, ...(vmdesc === undefined ? [] : [vmdesc])];
}

/** @throws ShadowError E_EPOCH_CORRUPT, naming the first file whose content is wrong */
export async function verifyShadow(
  directory: string,
  manifest: ShadowManifest,
  mode: VerifyMode,
): Promise<void> {
  for (const file of shadowFiles(manifest)) {
    const path = join(directory, file.file);
    if (mode === 'changed' && (await isUntouched(path, file))) continue;
    const sha256 = await digestFile(path, file.bytes);
    if (sha256 !== file.sha256) {
      const message = `${path} does not match its digest`;
      throw new ShadowError('E_EPOCH_CORRUPT', message, { path });
    }
  }
}

/** Reads a small file of a shadow (configuration, device state, vmdesc), checking its digest. */
export async function readShadowFile(directory: string, file: ShadowFile): Promise<Buffer> {
  const path = join(directory, file.file);
  const data = await readFile(path).catch((cause: unknown) => {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} cannot be read`, { path, cause });
  });
  if (sha256Of(data) !== file.sha256) {
    throw new ShadowError('E_EPOCH_CORRUPT', `${path} does not match its digest`, { path });
  }
  return data;
}

/** RAM images of a sealed shadow, as a source of pages. Close it. */
export class SealedRam {
  readonly #zero: Buffer;
  readonly #images: ImageReader[] = [];

  /** @throws ShadowError E_EPOCH_CORRUPT */
  static open(directory: string, manifest: ShadowManifest): SealedRam {
    const ram = new SealedRam(manifest.pageSize);
    try {
      for (const { file, bytes } of manifest.blocks) {
        ram.#images.push(new ImageReader(join(directory, file), bytes));
      }
      return ram;
    } catch (error) {
      ram.close();
      throw error;
    }
  }

  private constructor(pageSize: number) {
    this.#zero = Buffer.alloc(pageSize);
  }

  /** Copies a page to `into[at]`. @returns false if it holds nothing but zeros */
  read(block: number, offset: number, into: Uint8Array, at: number): boolean {
    const image = this.#images[block];
    if (image === undefined) throw new ShadowError('E_SHADOW_LAYOUT', `no block ${block}`);
    return image.read(offset, into, at, this.#zero);
  }

  close(): void {
    for (const image of this.#images) image.close();
    this.#images.length = 0;
  }
}

async function isUntouched(path: string, file: ShadowFile): Promise<boolean> {
  try {
    return witnessesAgree(await takeWitness(path), file.witness);
  } catch {
    return false; // let the full check name what is wrong
  }
}
