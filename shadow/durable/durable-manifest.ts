/**
 * What says that a member's shadow is whole on disk: `durable.json`, written last of its folder.
 * In the envelope of all manifests (../manifest.ts); a reader of version n refuses n+1.
 */
import { z } from 'zod';
import { ShadowError } from '../errors.ts';
import { MANIFEST_LIMIT_BYTES, sha256Of } from '../manifest.ts';

export const DURABLE_VERSION = 1;
/** Its digest is the epoch's name for a shadow, wherever the shadow is. */
export const SHADOW_MANIFEST = 'shadow.json';

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
export const nameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
const countSchema = z.number().int().nonnegative();

const containedSchema = z.object({
  /** The file's name in the shadow's folder; its container is FILE.umbra. */
  file: nameSchema,
  /** Its length, holes included. */
  bytes: countSchema,
  footer: z.object({
    batches: countSchema,
    contentBytes: countSchema,
    containerBytes: countSchema,
    chain: countSchema,
  }),
});

const baseSchema = z.object({ round: nameSchema, shadow: sha256Schema });

export const durableManifestSchema = z.object({
  format: z.literal('umbra-durable-shadow'),
  version: z.literal(DURABLE_VERSION),
  round: nameSchema,
  member: nameSchema,
  /** SHA-256 of its shadow.json. */
  shadow: sha256Schema,
  /** The shadow it is a delta of. */
  base: baseSchema.optional(),
  files: z.array(containedSchema).min(1).max(4096),
});

export type DurableManifest = z.infer<typeof durableManifestSchema>;
export type ContainedFile = z.infer<typeof containedSchema>;

const envelopeSchema = z.object({
  sha256: sha256Schema,
  body: z.looseObject({ version: z.number().int() }),
});

export function encodeDurableManifest(body: DurableManifest): string {
  return `${JSON.stringify({ sha256: sha256Of(JSON.stringify(body)), body })}\n`;
}

/** @throws ShadowError E_MANIFEST_INVALID, E_MANIFEST_VERSION */
export function decodeDurableManifest(text: string, path: string): DurableManifest {
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
  const { body } = json as z.infer<typeof envelopeSchema>; // as written: a schema reorders keys
  if (sha256Of(JSON.stringify(body)) !== envelope.data.sha256) {
    throw invalid('its digest does not match');
  }
  if (body.version > DURABLE_VERSION) {
    const message = `${path}: format version ${body.version}; this Umbra reads ${DURABLE_VERSION}`;
    throw new ShadowError('E_MANIFEST_VERSION', `${message}. Use a newer Umbra.`, { path });
  }
  const parsed = durableManifestSchema.safeParse(body);
  if (!parsed.success) throw invalid(z.prettifyError(parsed.error));
  return parsed.data;
}
