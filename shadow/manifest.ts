/**
 * The two manifests of memory, in the envelope of all manifests (envelope.ts):
 *
 *     shadow.json    one member: identity, RAM blocks, device state     in its shadow's folder
 *     000007.json    one epoch: which shadows belong together           in the catalogue
 *
 * The epoch names each shadow.json by digest, and that names each file by digest (an image by that of
 * its index, which has checksums of the image), and its base, so an epoch is either whole or found
 * out. A reader refuses any version but its own (E_MANIFEST_VERSION).
 */
import * as z from 'zod';
import { countSchema, fileNameSchema, type ManifestFormat, sha256Schema } from './envelope.ts';
import { fileStampSchema } from './file-stamp.ts';

/** Of shadow.json: 2 knows deltas and page indices. */
export const SHADOW_VERSION = 2;
const EPOCH_VERSION = 1;
/** Of any machine QEMU knows; memory is allocated by it. */
const PAGE_BYTES_MIN = 1024;
const PAGE_BYTES_MAX = 65_536;

const fileSchema = z.object({
  file: fileNameSchema,
  bytes: countSchema,
  sha256: sha256Schema,
  witness: fileStampSchema,
});

const blockSchema = z.object({
  idstr: z.string().min(1).max(255),
  /** Length of the RAM block. */
  bytes: countSchema,
  kind: z.enum(['full', 'delta']),
  /** The image, and its length. */
  file: fileNameSchema,
  fileBytes: countSchema,
  witness: fileStampSchema,
  /** Memory the image occupies. */
  storedBytes: countSchema,
  /** Where pages are, and checksums of the image (page-index.ts). */
  index: fileSchema,
});

const identitySchema = z.object({
  /** QEMU's full machine type, such as `pc-i440fx-7.2`; empty if the stream did not say. */
  machineType: z.string().max(256),
  qemuVersion: z.string().max(256),
  uuid: z.string().max(64),
  name: z.string().max(256),
  /** How the VM was started: argv, and the folder relative paths are taken from. */
  commandLine: z.array(z.string().max(65_536)).max(4096),
  workingDirectory: z.string().max(4096),
  /** Of a VM that libvirt has started. */
  domainXml: z
    .string()
    .max(8 * 2 ** 20)
    .optional(),
});

const shadowManifestSchema = z.object({
  format: z.literal('umbra-shadow'),
  version: z.literal(SHADOW_VERSION),
  member: fileNameSchema,
  round: fileNameSchema,
  identity: identitySchema,
  pageSize: z.number().int().min(PAGE_BYTES_MIN).max(PAGE_BYTES_MAX),
  /** What deltas are taken against: the same member's full shadow of another round, by digest. */
  base: z.object({ round: fileNameSchema, shadow: sha256Schema }).optional(),
  blocks: z.array(blockSchema).min(1).max(1024),
  configuration: fileSchema,
  deviceState: fileSchema,
  vmdesc: fileSchema.optional(),
});

/** A disk as it was at the cut: files nobody writes any more, the newest first. They are not ours to copy. */
export const frozenDiskSchema = z.object({
  device: z.string().min(1).max(255),
  layers: z
    .array(z.object({ path: z.string().min(1).max(4096), format: z.string().min(1).max(64) }))
    .min(1)
    .max(1024)
    .readonly(),
});

const epochMemberSchema = z.object({
  name: fileNameSchema,
  shadow: sha256Schema,
  /** Absent if it has none, or if they are not part of epochs (round.disks). */
  disks: z.array(frozenDiskSchema).max(256).optional(),
});

export const epochManifestSchema = z.object({
  format: z.literal('umbra-epoch'),
  version: z.literal(EPOCH_VERSION),
  cluster: z.string().max(64),
  epoch: z.number().int().positive(),
  round: fileNameSchema,
  /** ISO 8601. */
  createdAt: z.string().max(40),
  members: z.array(epochMemberSchema).min(1).max(10_000),
});

export type Identity = z.infer<typeof identitySchema>;
export type ShadowManifest = z.infer<typeof shadowManifestSchema>;
export type ShadowBlock = z.infer<typeof blockSchema>;
export type BaseName = NonNullable<ShadowManifest['base']>;
export type ShadowFile = z.infer<typeof fileSchema>;
export type EpochManifest = z.infer<typeof epochManifestSchema>;
export type FrozenDisk = z.infer<typeof frozenDiskSchema>;

export const SHADOW_FORMAT: ManifestFormat<ShadowManifest> = {
  name: 'umbra-shadow',
  version: SHADOW_VERSION,
  schema: shadowManifestSchema,
};

export const EPOCH_FORMAT: ManifestFormat<EpochManifest> = {
  name: 'umbra-epoch',
  version: EPOCH_VERSION,
  schema: epochManifestSchema,
};

/** Facts of an epoch, from which its manifest is made. */
export type EpochFacts = Omit<EpochManifest, 'format' | 'version'>;

/** Returns the manifest of an epoch in the version that this Umbra writes. */
export function makeEpochManifest(facts: EpochFacts): EpochManifest {
  return { format: 'umbra-epoch', version: EPOCH_VERSION, ...facts };
}

/** The main RAM block: the one a `map` restore does not send. */
export function mainRamIndex(manifest: ShadowManifest): number {
  const { blocks } = manifest;
  return blocks.reduce(
    (largest, { bytes }, index) => (bytes > (blocks[largest]?.bytes ?? 0) ? index : largest),
    0,
  );
}
