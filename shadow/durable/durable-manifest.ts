/**
 * Manifest of a member's shadow on disk: `durable.json`, written last of its folder. Where it is,
 * the shadow is whole. It is in the envelope of all manifests (../envelope.ts). What it requires of
 * readers holds for its containers, too.
 */
import * as z from 'zod';
import {
  countSchema,
  fileNameSchema,
  type ManifestFormat,
  requiresSchema,
  sha256Schema,
} from '../envelope.ts';

/** Version of durable.json: 0.1 wrote 1. */
export const DURABLE_VERSION = 2;

const containedSchema = z.object({
  /** Name of the file in the shadow's folder; its container is FILE.umbra. */
  file: fileNameSchema,
  /** Length of the file, holes included. */
  bytes: countSchema,
  footer: z.object({
    batches: countSchema,
    contentBytes: countSchema,
    containerBytes: countSchema,
    chain: countSchema,
  }),
});

const baseSchema = z.object({ round: fileNameSchema, shadow: sha256Schema });

const durableManifestSchema = z.object({
  format: z.literal('umbra-durable-shadow'),
  version: z.literal(DURABLE_VERSION),
  requires: requiresSchema,
  round: fileNameSchema,
  member: fileNameSchema,
  /** SHA-256 of its shadow.json. */
  shadow: sha256Schema,
  /** Shadow that it is a delta of. */
  base: baseSchema.optional(),
  files: z.array(containedSchema).min(1).max(4096),
});

export type DurableManifest = z.infer<typeof durableManifestSchema>;
export type ContainedFile = z.infer<typeof containedSchema>;

export const DURABLE_FORMAT: ManifestFormat<DurableManifest> = {
  name: 'umbra-durable-shadow',
  version: DURABLE_VERSION,
  first: 1,
  schema: durableManifestSchema,
};
