/** Facts of a round's report that calibrate predictions (policies/calibration.ts). PURE. */
import type { RoundOutcome } from '../../../policies/index.ts';
import type { RoundReport } from '../../protocol/report.ts';

/** Returns the facts; undefined if it was aborted, or a member had no live phase. */
export function outcomeOf(report: RoundReport): RoundOutcome | undefined {
  const { clusterDowntimeMs, failure, members } = report;
  if (failure !== undefined || clusterDowntimeMs === undefined) return undefined;
  if (members.some(({ capture }) => capture !== 'precopy')) return undefined;
  return {
    clusterDowntimeMs,
    rawPredictedMs: report.rawPredictedDowntimeMs,
    predictedMs: report.predictedDowntimeMs,
  };
}
