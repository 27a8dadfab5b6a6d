/**
 * Envelope of every manifest: a digest of the rest, so that a manifest is either as it was written
 * or found to be damaged.
 *
 *     {"sha256": HEX, "body": {"format": NAME, "version": N, "requires": [FEATURE, …], …}}
 *
 * The digest covers the body as written: it is taken before any schema reorders keys.
 * format-version.ts says which versions are read, and what `requires` is for.
 */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { ShadowError } from './errors.ts';
import { type FormatVersion, requireFeatures, requireVersion } from './format-version.ts';

/** Length, bytes, beyond which a manifest is damaged or hostile. */
export const MANIFEST_LIMIT_BYTES = 16 * 1024 * 1024;

export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
/** File name and nothing more: a manifest must not reach out of its folder. */
export const fileNameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
export const countSchema = z.number().int().nonnegative();

const envelopeSchema = z.object({
  sha256: sha256Schema,
  body: z.looseObject({ format: z.string(), version: z.number().int() }),
});

/** Features that a reader of the file has to know; absent if there are none (format-version.ts). */
export const requiresSchema = z.array(z.string().min(1).max(64)).max(64).optional();

/** Kind of manifest: its versions, and a schema for the newest, which the one before satisfies. */
export interface ManifestFormat<T> extends FormatVersion {
  readonly schema: z.ZodType<T>;
}

/** Returns the SHA-256, in hexadecimal digits. */
export function sha256Of(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** Puts a body into an envelope. @returns one line of JSON */
export function wrap(body: object): string {
  return `${JSON.stringify({ sha256: sha256Of(JSON.stringify(body)), body })}\n`;
}

/**
 * Reads a manifest of the version this Umbra writes, or the one before.
 * @param path for messages
 * @returns the body, in the shape of the newest version
 * @throws ShadowError E_MANIFEST_INVALID, E_MANIFEST_VERSION, E_MANIFEST_FEATURE
 */
export function unwrap<T>(text: string, format: ManifestFormat<T>, path: string): T {
  const invalid = (why: string, cause?: unknown) =>
    new ShadowError('E_MANIFEST_INVALID', `${path}: ${why}`, { path, cause });
  if (text.length > MANIFEST_LIMIT_BYTES) throw invalid('larger than any manifest');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw invalid('not JSON', cause);
  }
  const envelope = envelopeSchema.safeParse(json);
  if (!envelope.success) throw invalid(z.prettifyError(envelope.error));
  const { body } = json as z.infer<typeof envelopeSchema>;
  const { name, version, schema } = format;
  if (body.format !== name) throw invalid(`its format is ${body.format}, not ${name}`);
  // Before the digest, which another version may compute otherwise.
  requireVersion(format, body.version, path);
  if (sha256Of(JSON.stringify(body)) !== envelope.data.sha256) {
    throw invalid('its digest does not match');
  }
  const required = requiresSchema.safeParse(body.requires);
  if (!required.success) throw invalid(z.prettifyError(required.error));
  requireFeatures(format, required.data ?? [], path);
  const parsed = schema.safeParse({ ...body, version });
  if (!parsed.success) throw invalid(z.prettifyError(parsed.error));
  return parsed.data;
}
