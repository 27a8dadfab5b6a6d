/** What a round's report teaches (policies/calibration.ts). PURE. */
import type { RoundOutcome } from '../../../policies/index.ts';
import type { RoundReport } from '../../protocol/report.ts';

/** @returns undefined for a round that did not come to an end, or had members without a live phase */
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
