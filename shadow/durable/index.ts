export {
  DurableStore,
  type PersistProgress,
  type PersistResult,
} from './durable-store.ts';
export { roundsRead } from './epoch-shadows.ts';
export { fetchEpoch } from './fetch-epoch.ts';
export { Pace } from './pace.ts';
export { PERSIST_STEPS, type PersistStep } from './steps.ts';
