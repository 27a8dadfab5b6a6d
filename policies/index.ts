export {
  decideEnd,
  type EndConditionOptions,
  type EndDecision,
  type LiveSample,
} from './end-condition.ts';
