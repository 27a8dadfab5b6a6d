export { admitRound } from './budget.ts';
export {
  type Calibration,
  calibrate,
  correct,
  NO_CALIBRATION,
  type RoundOutcome,
} from './calibration.ts';
export { decideEnd, type EndCondition, type LiveView } from './end-condition.ts';
export {
  type Estimate,
  estimate,
  type LiveSample,
  nothingKnown,
} from './estimator.ts';
export {
  chooseMigrations,
  type EvacuationPolicy,
  type Passing,
} from './evacuation.ts';
export { dalyIntervalMs, type Interval, LEAST_INTERVAL_MS, nextInterval } from './interval.ts';
export { isPassWorthIt, type LivePass } from './live-passes.ts';
export { type LiveDecision, LivePhase, type LivePolicy } from './live-phase.ts';
export { chooseSlots, type Multiplexing } from './multiplexing.ts';
export { observeProgress, type Progress, whyStalled } from './progress.ts';
export { epochsToRetire, type RetainedEpoch, type RetentionPolicy } from './retention.ts';
