/**
 * Steps of the store, by name: after each of them its files are as after no other step. Code that
 * takes a step calls its OnStep; tests end the process right there, at every step.
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

/** Called when a step has been taken. */
export type OnStep = (step: StoreStep) => void;

export const IGNORE_STEPS: OnStep = () => {};
