/**
 * The two manifests of memory, in the envelope of all manifests (envelope.ts):
 *
 *     shadow.json    one member: identity, RAM blocks, device state     in its shadow's folder
 *     000007.json    one epoch: which shadows belong together           in the catalogue
 *
 * The epoch names each shadow.json by its digest. Each shadow.json names its base and every file by
 * digest; an image by the digest of its index, which has checksums of the image. An epoch is
 * therefore either whole, or found not to be. A reader gives the shape of the newest version, also
 * of a file of the version before.
 */
import * as z from 'zod';
import {
  countSchema,
  fileNameSchema,
  type ManifestFormat,
  requiresSchema,
  sha256Schema,
} from './envelope.ts';
import { fileStampSchema } from './file-stamp.ts';
import { machineSchema } from './machine.ts';

/** Version of shadow.json: 1 was never released, 0.1 wrote 2. */
export const SHADOW_VERSION = 3;
/** Version of an epoch's manifest: 0.1 wrote 1. */
const EPOCH_VERSION = 2;
/** Least page size of any machine that QEMU knows. */
const PAGE_BYTES_MIN = 1024;
/** Largest one. Memory is allocated by it. */
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
  /** File of the image, and its length. */
  file: fileNameSchema,
  fileBytes: countSchema,
  witness: fileStampSchema,
  /** Memory the image occupies, bytes. */
  storedBytes: countSchema,
  /** Page index: where pages are, and checksums of the image (page-index.ts). */
  index: fileSchema,
});

const identitySchema = z.object({
  /** QEMU's full machine type, such as `pc-i440fx-7.2`; empty if the stream did not say. */
  machineType: z.string().max(256),
  qemuVersion: z.string().max(256),
  /** Build-id of the program that ran; absent in epochs of 0.1. */
  qemuBuildId: z.string().max(128).optional(),
  uuid: z.string().max(64),
  name: z.string().max(256),
  /** Command line that started the VM, and the folder that its relative paths start from. */
  commandLine: z.array(z.string().max(65_536)).max(4096),
  workingDirectory: z.string().max(4096),
  /** XML of the domain, of a VM that libvirt has started. */
  domainXml: z
    .string()
    .max(8 * 2 ** 20)
    .optional(),
  /** The machine as QEMU had it; absent in epochs of 0.1. */
  machine: machineSchema.optional(),
});

const shadowManifestSchema = z.object({
  format: z.literal('umbra-shadow'),
  version: z.literal(SHADOW_VERSION),
  requires: requiresSchema,
  member: fileNameSchema,
  round: fileNameSchema,
  identity: identitySchema,
  pageSize: z.number().int().min(PAGE_BYTES_MIN).max(PAGE_BYTES_MAX),
  /** Round in which the VM was captured, if the folder is that of another. */
  cut: fileNameSchema.optional(),
  /** Base of its deltas: the same member's shadow of another round, by digest. */
  base: z.object({ round: fileNameSchema, shadow: sha256Schema }).optional(),
  blocks: z.array(blockSchema).min(1).max(1024),
  configuration: fileSchema,
  deviceState: fileSchema,
  vmdesc: fileSchema.optional(),
});

/**
 * Disk as it was at the cut: layers that no VM writes to any more, the newest first. Umbra does not
 * copy them.
 */
const frozenDiskSchema = z.object({
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
  /**
   * QEMU's time stamp of the cut, microseconds since 1970: the guest's clock goes on from there.
   * Absent in epochs of 0.1.
   */
  stoppedAtUs: countSchema.optional(),
  /** Absent if the VM has none, or if disks are not part of epochs (round.disks). */
  disks: z.array(frozenDiskSchema).max(256).optional(),
});

export const epochManifestSchema = z.object({
  format: z.literal('umbra-epoch'),
  version: z.literal(EPOCH_VERSION),
  requires: requiresSchema,
  cluster: z.string().max(64),
  epoch: z.number().int().positive(),
  round: fileNameSchema,
  /** Time of the commit, ISO 8601. */
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
  first: 2,
  schema: shadowManifestSchema,
};

export const EPOCH_FORMAT: ManifestFormat<EpochManifest> = {
  name: 'umbra-epoch',
  version: EPOCH_VERSION,
  first: 1,
  schema: epochManifestSchema,
};

/** Facts of an epoch, from which its manifest is made. */
export type EpochFacts = Omit<EpochManifest, 'format' | 'version'>;

/** Returns the manifest of an epoch in the version that this Umbra writes. */
export function makeEpochManifest(facts: EpochFacts): EpochManifest {
  return { format: 'umbra-epoch', version: EPOCH_VERSION, ...facts };
}

/**
 * Returns the index of the main RAM block: the one that a `map` restore does not send. It is the
 * block of the backend that the machine uses; where that is not known, the largest one.
 */
export function mainRamIndex({ blocks, identity }: ShadowManifest): number {
  const backend = identity.machine?.mainRam ?? '';
  const named = blocks.findIndex(({ idstr }) => {
    return backend !== '' && (idstr === backend || idstr === `/objects/${backend}`);
  });
  if (named >= 0) return named;
  return blocks.reduce(
    (largest, { bytes }, index) => (bytes > (blocks[largest]?.bytes ?? 0) ? index : largest),
    0,
  );
}
