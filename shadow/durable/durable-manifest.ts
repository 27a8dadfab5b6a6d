/**
 * What says that a member's shadow is whole on disk: `durable.json`, written last of its folder.
 * In the envelope of all manifests (../envelope.ts).
 */
import * as z from 'zod';
import {
  countSchema,
  fileNameSchema,
  type ManifestFormat,
  requiresSchema,
  sha256Schema,
} from '../envelope.ts';

/** 0.1 wrote 1. */
export const DURABLE_VERSION = 2;

const containedSchema = z.object({
  /** The file's name in the shadow's folder; its container is FILE.umbra. */
  file: fileNameSchema,
  /** Its length, holes included. */
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
  /** The shadow it is a delta of. */
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
