/** What a round's report teaches (policies/calibration.ts). PURE. */
import type { DrainOutcome, RoundOutcome } from '../../policies/index.ts';
import type { RoundReport } from './report.ts';

/** @returns undefined for a round that did not come to an end, or had members without a live phase */
export function outcomeOf(report: RoundReport): RoundOutcome | undefined {
  const { clusterDowntimeMs, predictedDowntimeMs: predictedMs } = report;
  const { rawPredictedDowntimeMs: rawPredictedMs } = report;
  if (report.failure !== undefined || clusterDowntimeMs === undefined) return undefined;
  const members = new Map<string, DrainOutcome>();
  for (const { member, capture, downtimeMs, drainBytes, drainMs } of report.members) {
    if (capture !== 'precopy') return undefined;
    if (downtimeMs === undefined || drainBytes === undefined || drainMs === undefined) {
      return undefined;
    }
    members.set(member, { drainBytes, drainMs, downtimeMs });
  }
  return { members, clusterDowntimeMs, predictedMs, rawPredictedMs };
}
