export { alignedBuffer } from './aligned-buffer.ts';
export { Catalogue, type Listing } from './catalogue.ts';
export { collectLeftovers } from './collect.ts';
export { sha256Of } from './envelope.ts';
export { isOfAnotherUmbra, ShadowError } from './errors.ts';
export { foldShadow } from './fold.ts';
export { type FormatVersion, isReadable } from './format-version.ts';
export type { RunImage } from './link-image.ts';
export { type Machine, machineSchema } from './machine.ts';
export {
  type EpochManifest,
  epochManifestSchema,
  type FrozenDisk,
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
export { Remembered } from './remembered.ts';
export { measureRoom, occupiedBytes, requireRoom } from './room.ts';
export { SealedRam } from './sealed-ram.ts';
export {
  type BaseRounds,
  chainOf,
  cutOf,
  type OneShadow,
  openOneShadow,
  openShadow,
  readShadowFile,
  rootOf,
  type SealedShadow,
} from './sealed-shadow.ts';
export { type EpochSpace, measureEpochs } from './space.ts';
export {
  markMapped,
  pruneSpares,
  recycleShadows,
  spareDirectory,
} from './spares.ts';
export {
  type BlockLayout,
  type SealInput,
  StagingShadow,
} from './staging.ts';
export { type OnStep, STORE_STEPS } from './steps.ts';
export { StoreBytes } from './store-bytes.ts';
export { writeFailure } from './synced.ts';
export { isUntouched, isUntouchedAlone } from './untouched.ts';
export { type VerifyMode, verifyShadow } from './verify.ts';
