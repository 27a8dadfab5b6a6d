/**
 * The two manifests. Both are JSON in an envelope that carries a digest of the rest:
 *
 *     {"sha256": HEX, "body": {"format": NAME, "version": N, …}}
 *
 *     shadow.json    one member: identity, RAM blocks, device state     in its shadow's folder
 *     000007.json    one epoch: which shadows belong together           in the catalogue
 *
 * The epoch names each shadow.json by digest, and that names each file by digest (an image by that of
 * its index, which has checksums of the image), and its base, so an epoch is either whole or found
 * out. A reader refuses any version but its own (E_MANIFEST_VERSION).
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { ShadowError } from './errors.ts';
import { witnessSchema } from './witness.ts';

/** Of shadow.json: 2 knows deltas and page indices. */
export const SHADOW_VERSION = 2;
export const EPOCH_VERSION = 1;
/** A manifest larger than this is damaged or hostile. */
export const MANIFEST_LIMIT_BYTES = 16 * 1024 * 1024;

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
/** A file name and nothing more: manifests must not reach out of their folder. */
const fileNameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
const bytesSchema = z.number().int().nonnegative();

const fileSchema = z.object({
  file: fileNameSchema,
  bytes: bytesSchema,
  sha256: sha256Schema,
  witness: witnessSchema,
});

const blockSchema = z.object({
  idstr: z.string().min(1).max(255),
  /** Length of the RAM block. */
  bytes: bytesSchema,
  kind: z.enum(['full', 'delta']),
  /** The image, and its length. */
  file: fileNameSchema,
  fileBytes: bytesSchema,
  witness: witnessSchema,
  /** Memory the image occupies. */
  storedBytes: bytesSchema,
  /** Where pages are, and checksums of the image (page-index.ts). */
  index: fileSchema,
});

export const identitySchema = z.object({
  /** QEMU's full machine type, such as `pc-i440fx-7.2`; empty if the stream did not say. */
  machineType: z.string().max(256),
  qemuVersion: z.string().max(256),
  uuid: z.string().max(64),
  name: z.string().max(256),
  /** How the VM was started: argv, and the folder relative paths are taken from. */
  commandLine: z.array(z.string().max(65_536)).max(4096),
  workingDirectory: z.string().max(4096),
});

export const shadowManifestSchema = z.object({
  format: z.literal('umbra-shadow'),
  version: z.literal(SHADOW_VERSION),
  member: z.string().max(64),
  round: z.string().max(64),
  identity: identitySchema,
  pageSize: z.number().int().positive(),
  /** What deltas are taken against: the same member's full shadow of another round, by digest. */
  base: z.object({ round: fileNameSchema, shadow: sha256Schema }).optional(),
  blocks: z.array(blockSchema).min(1).max(1024),
  configuration: fileSchema,
  deviceState: fileSchema,
  vmdesc: fileSchema.optional(),
});

export const epochManifestSchema = z.object({
  format: z.literal('umbra-epoch'),
  version: z.literal(EPOCH_VERSION),
  cluster: z.string().max(64),
  epoch: z.number().int().positive(),
  round: fileNameSchema,
  /** ISO 8601. */
  createdAt: z.string().max(40),
  members: z
    .array(z.object({ name: fileNameSchema, shadow: sha256Schema }))
    .min(1)
    .max(10_000),
});

export type Identity = z.infer<typeof identitySchema>;
export type ShadowManifest = z.infer<typeof shadowManifestSchema>;
export type ShadowBlock = z.infer<typeof blockSchema>;
export type BaseName = NonNullable<ShadowManifest['base']>;
export type ShadowFile = z.infer<typeof fileSchema>;
export type EpochManifest = z.infer<typeof epochManifestSchema>;

const envelopeSchema = z.object({
  sha256: sha256Schema,
  body: z.looseObject({ format: z.string(), version: z.number().int() }),
});

export function sha256Of(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

export function encodeManifest(body: ShadowManifest | EpochManifest): string {
  return `${JSON.stringify({ sha256: sha256Of(JSON.stringify(body)), body })}\n`;
}

/** @throws ShadowError E_MANIFEST_INVALID, E_MANIFEST_VERSION */
export function decodeManifest<T>(text: string, schema: z.ZodType<T>, path: string): T {
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
  const { sha256 } = envelope.data;
  // The digest covers the body as written: take it before any schema reorders its keys.
  const { body } = json as z.infer<typeof envelopeSchema>;
  const known = body.format === 'umbra-epoch' ? EPOCH_VERSION : SHADOW_VERSION;
  if (body.version !== known) {
    const message = `${path}: format version ${body.version}; this Umbra reads ${known}`;
    const hint = body.version > known ? 'Use a newer Umbra.' : 'Take a new checkpoint.';
    throw new ShadowError('E_MANIFEST_VERSION', `${message}. ${hint}`, { path });
  }
  if (sha256Of(JSON.stringify(body)) !== sha256) throw invalid('its digest does not match');
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw invalid(z.prettifyError(parsed.error));
  return parsed.data;
}
