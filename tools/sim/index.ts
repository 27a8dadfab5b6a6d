export { GIB, MIB, mixed4, randomCluster, repeatedCluster, unevenCluster, vm } from './clusters.ts';
export { type Call, Recording } from './replay.ts';
export { type MemberResult, outcomeOf, type RoundResult } from './result.ts';
export {
  type ClusterSpec,
  namesOf,
  policyOf,
  type SimulationOptions,
  simulate,
} from './simulation.ts';
