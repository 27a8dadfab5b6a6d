/** The result of a simulated round. All times are virtual milliseconds, all sizes bytes. */
import type { RoundOutcome } from '../../policies/index.ts';
import type { ModelledCoordinator } from './coordinator.ts';
import type { ModelledMember } from './member.ts';

export interface MemberResult {
  readonly liveBytes: number;
  readonly drainBytes: number;
  readonly passes: number;
  /** The time of the live phase in which its stream was not read. */
  readonly heldMs: number;
  readonly repeatedPages: number;
  readonly drainMs: number;
  readonly downtimeMs: number;
}

export interface RoundResult {
  readonly outcome: 'committed' | 'aborted';
  readonly endReason: string | undefined;
  /** First stop to last resume; not a number in a round that was aborted. */
  readonly clusterDowntimeMs: number;
  readonly predictedMs: number | undefined;
  readonly rawPredictedMs: number | undefined;
  /** First stop to last stop. */
  readonly skewMs: number;
  /** From the round's beginning to its end. */
  readonly latencyMs: number;
  /** The time from the first member's start to the first stop. */
  readonly liveMs: number;
  readonly totalBytes: number;
  readonly ramBytes: number;
  /** The largest of its members. */
  readonly liveBytesOverRamMax: number;
  readonly perMember: ReadonlyMap<string, MemberResult>;
  /** No member resumed before all had stopped. */
  readonly barrierHeld: boolean;
}

export function resultOf(
  coordinator: ModelledCoordinator,
  members: ReadonlyMap<string, ModelledMember>,
  latencyMs: number,
): RoundResult {
  const records = [...members.values()].map(({ record }) => record);
  const firstStop = least(records.map(({ stoppedAtMs }) => stoppedAtMs));
  const lastStop = most(records.map(({ stoppedAtMs }) => stoppedAtMs));
  const firstResume = least(records.map(({ resumedAtMs }) => resumedAtMs));
  const lastResume = most(records.map(({ resumedAtMs }) => resumedAtMs));
  const perMember = new Map([...members].map(([name, member]) => [name, memberResult(member)]));
  return {
    outcome: coordinator.committed ? 'committed' : 'aborted',
    endReason: coordinator.endReason,
    clusterDowntimeMs: lastResume - firstStop,
    predictedMs: coordinator.last?.predictedMs,
    rawPredictedMs: coordinator.last?.rawPredictedMs,
    skewMs: lastStop - firstStop,
    latencyMs,
    liveMs: firstStop - least(records.map(({ liveAtMs }) => liveAtMs)),
    totalBytes: sum([...members.values()].map(({ vm }) => vm.wireBytes)),
    ramBytes: sum([...members.values()].map(({ spec }) => spec.ramBytes)),
    liveBytesOverRamMax: most(
      [...members.values()].map(({ record, spec }) => record.liveBytes / spec.ramBytes),
    ),
    perMember,
    barrierHeld: Number.isNaN(firstResume) || firstResume >= lastStop,
  };
}

/** Returns what `calibrate` takes of a committed round. */
export function outcomeOf({
  clusterDowntimeMs,
  predictedMs,
  rawPredictedMs,
}: RoundResult): RoundOutcome {
  return { clusterDowntimeMs, predictedMs, rawPredictedMs };
}

function memberResult({ vm, record }: ModelledMember): MemberResult {
  return {
    liveBytes: record.liveBytes,
    drainBytes: vm.wireBytes - record.liveBytes,
    passes: record.passes,
    heldMs: record.heldMs,
    repeatedPages: Math.max(0, vm.normalPages + vm.zeroPages - vm.totalPages),
    drainMs: record.drainedAtMs - record.stoppedAtMs,
    downtimeMs: record.resumedAtMs - record.stoppedAtMs,
  };
}

/** Returns the largest; NaN if one is NaN. Thousands are too many arguments for Math.max. */
function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}

function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
