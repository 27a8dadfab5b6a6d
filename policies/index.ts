export { decideEnd, type EndCondition, type EndDecision } from './end-condition.ts';
export { type Estimate, estimate, type LiveSample } from './estimator.ts';
export { type OptionHelp, POLICIES } from './explain.ts';
