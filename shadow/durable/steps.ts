/**
 * Steps of persisting an epoch, by name and in their order. If the power is cut after any of them,
 * every epoch listed on disk must be fetched whole: test/shadow/durable/power-cut.test.ts walks
 * this list.
 */
export const PERSIST_STEPS = [
  /** The folder of a member is there. */
  'shadow/folder',
  /** A container has its header and nothing else. */
  'file/opened',
  'file/batch',
  /** The container has its footer. */
  'file/written',
  'file/synced',
  /** The container has its own name. */
  'file/named',
  /** All containers of the member have their names. */
  'shadow/files',
  'shadow/manifest-drafted',
  'shadow/manifest-named',
  /** Every shadow of the epoch is whole on disk, but nothing lists it. */
  'epoch/shadows',
  'epoch/drafted',
  /** The epoch is listed. */
  'epoch/named',
  /** An older epoch is no longer listed, but its shadows are still there. */
  'retire/unlisted',
  'retire/collected',
] as const;

export type PersistStep = (typeof PERSIST_STEPS)[number];

/** Called when a step has been taken. */
export type OnStep = (step: PersistStep) => void;
