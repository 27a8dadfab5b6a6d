export { Catalogue, collectLeftovers, type DamagedEpoch, type Listing } from './catalogue.ts';
export { ShadowError, type ShadowErrorCode } from './errors.ts';
export type { EpochManifest, Identity, ShadowManifest } from './manifest.ts';
export { sha256Of } from './manifest.ts';
export type { RamImage } from './ram-image.ts';
export { measureRoom, occupiedBytes, type Room, requireRoom } from './room.ts';
export {
  readShadow,
  readShadowFile,
  SealedRam,
  type VerifyMode,
  verifyShadow,
} from './sealed.ts';
export { markMapped, pruneSpares, recycleShadows, spareDirectory } from './spares.ts';
export { type BlockLayout, type SealedShadow, type SealInput, StagingShadow } from './staging.ts';
