export { repeatedCluster } from './clusters.ts';
export { Recording } from './replay.ts';
export {} from './result.ts';
export {
  namesOf,
  policyOf,
  type SimulationOptions,
  simulate,
} from './simulation.ts';
