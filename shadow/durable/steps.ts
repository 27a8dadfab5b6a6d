/**
 * The steps of persisting an epoch, by name and in their order: wherever the power is cut, every epoch
 * listed on disk must fetch whole. test/shadow/durable/power-cut.test.ts walks this list.
 */
export const PERSIST_STEPS = [
  /** A member's folder is there. */
  'shadow/folder',
  /** A container has its header and nothing else. */
  'file/opened',
  'file/batch',
  /** It has its footer. */
  'file/written',
  'file/synced',
  /** It has its real name. */
  'file/named',
  /** All containers of the member have. */
  'shadow/files',
  'shadow/manifest-drafted',
  'shadow/manifest-named',
  /** Every shadow of the epoch is whole on disk, and nothing lists it. */
  'epoch/shadows',
  'epoch/drafted',
  /** The epoch is listed. */
  'epoch/named',
  /** An older one is listed no more, and its shadows are still there. */
  'retire/unlisted',
  'retire/collected',
] as const;

export type PersistStep = (typeof PERSIST_STEPS)[number];

/** Called when a step has been taken. */
export type OnStep = (step: PersistStep) => void;
