export {
  DurableStore,
  type PersistOptions,
  type PersistProgress,
  type PersistResult,
} from './durable-store.ts';
export { roundsRead } from './epoch-shadows.ts';
export { fetchEpoch } from './fetch-epoch.ts';
export { type Clock, Pace } from './pace.ts';
export type { ShadowName } from './shadow-folder.ts';
export { PERSIST_STEPS, type PersistStep } from './steps.ts';
