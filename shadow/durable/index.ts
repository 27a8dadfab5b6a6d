export type { ShadowName } from './durable-shadow.ts';
export {
  DurableStore,
  type PersistOptions,
  type PersistProgress,
  type PersistResult,
  roundsRead,
} from './durable-store.ts';
export { fetchEpoch } from './fetch-epoch.ts';
export { type Clock, Pace } from './pace.ts';
export { PERSIST_STEPS, type PersistStep } from './steps.ts';
