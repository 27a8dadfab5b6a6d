export { Catalogue, type DamagedEpoch, type Listing } from './catalogue.ts';
export { type CollectOptions, collectLeftovers } from './collect.ts';
export { sha256Of } from './envelope.ts';
export { ShadowError, type ShadowErrorCode } from './errors.ts';
export { foldShadow } from './fold.ts';
export {
  type BaseName,
  type EpochManifest,
  epochManifestSchema,
  type FrozenDisk,
  frozenDiskSchema,
  type Identity,
  mainRamIndex,
  makeEpochManifest,
  type ShadowManifest,
} from './manifest.ts';
export { populate } from './mapping.ts';
export { isRoundName, ROUND_RANDOM_BYTES, roundName } from './names.ts';
export { makeOwnFolder, makeTrustedFolder, requireTrustedFolder } from './own-folder.ts';
export { pinEpoch, pinnedEpochs, unpinEpoch } from './pins.ts';
export type { RamImage } from './ram-image.ts';
export { reclaimHoles } from './reclaim-holes.ts';
export { measureRoom, occupiedBytes, type Room, requireRoom } from './room.ts';
export { SealedRam } from './sealed-ram.ts';
export { openShadow, readShadowFile, type SealedShadow } from './sealed-shadow.ts';
export { type EpochSpace, measureEpochs } from './space.ts';
export {
  markMapped,
  pruneSpares,
  recycleShadows,
  type SparesWanted,
  spareDirectory,
} from './spares.ts';
export {
  type BlockLayout,
  type Sealed,
  type SealInput,
  type StagingLocation,
  type StagingOptions,
  StagingShadow,
} from './staging.ts';
export { type OnStep, STORE_STEPS, type StoreStep } from './steps.ts';
export { writeFailure } from './synced.ts';
export { isUntouched } from './untouched.ts';
export { type VerifyMode, verifyShadow } from './verify.ts';
