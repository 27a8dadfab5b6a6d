/**
 * What can be half done when the power goes: every step after which the store's files are as no other
 * step leaves them. Whoever takes a step tells its name; tests end the process right there, at each.
 */
export const STORE_STEPS = [
  'commit/drafted',
  'commit/linked',
  'commit/synced',
  'retire/numbered',
  'retire/unlinked',
  'retire/synced',
  'collect/removed',
  'fold/staged',
  'fold/copied',
  'fold/sealed',
  'fold/drafted',
  'fold/renamed',
  'fold/synced',
] as const;

export type StoreStep = (typeof STORE_STEPS)[number];

export type OnStep = (step: StoreStep) => void;

export const NOBODY_TOLD: OnStep = () => {};
