/**
 * What every manifest of ours is wrapped in: a digest of the rest, so that one is either as it was
 * written or found out.
 *
 *     {"sha256": HEX, "body": {"format": NAME, "version": N, …}}
 *
 * The digest covers the body as written: it is taken before any schema reorders keys.
 */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { ShadowError } from './errors.ts';
import { type FormatVersion, requireFeatures, requireVersion } from './format-version.ts';

/** A manifest larger than this is damaged or hostile. */
export const MANIFEST_LIMIT_BYTES = 16 * 1024 * 1024;

export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
/** A file name and nothing more: manifests must not reach out of their folder. */
export const fileNameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
export const countSchema = z.number().int().nonnegative();

const envelopeSchema = z.object({
  sha256: sha256Schema,
  body: z.looseObject({ format: z.string(), version: z.number().int() }),
});

/** Features that a reader of the file has to know; absent if there is none (format-version.ts). */
export const requiresSchema = z.array(z.string().min(1).max(64)).max(64).optional();

/** A kind of manifest: its versions, and the schema of the newest, which holds for the one before. */
export interface ManifestFormat<T> extends FormatVersion {
  readonly schema: z.ZodType<T>;
}

export function sha256Of(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** One line of JSON. */
export function wrap(body: object): string {
  return `${JSON.stringify({ sha256: sha256Of(JSON.stringify(body)), body })}\n`;
}

/**
 * @param path for messages
 * @throws ShadowError E_MANIFEST_INVALID, E_MANIFEST_VERSION
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
  // Before the digest: another version may take it otherwise.
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
