/** Checks the design's promises of a round, whatever the seed, the cluster and the policies. */
import type { ModelledMember } from './member.ts';
import type { RoundResult } from './result.ts';

/** @throws Error that names the seed and the promise */
export function checkPromises(
  seed: number,
  result: RoundResult,
  members: readonly ModelledMember[],
  memoryBound: number,
): void {
  const require = (kept: boolean, promise: string): void => {
    if (!kept) throw new Error(`seed ${seed}: ${promise}`);
  };
  require(barrierKept(members), 'a member resumed before all had stopped');
  for (const { record, spec } of members) {
    const limit = Math.ceil(memoryBound * spec.ramBytes);
    const live = Math.round(record.liveBytes); // a model's bytes come in fractions
    require(live <= limit, 'a member streamed more than the bound while it ran');
  }
  require(members.every(({ vm }) => vm.runs), 'a VM was left standing');
  require(members.every((member) => member.isIdle), 'a member is still in the round');
  if (result.outcome === 'aborted') return;
  for (const { record, vm } of members) {
    require(record.resumedAtMs >= record.drainedAtMs, 'a member resumed before its drain was over');
    require(vm.seenPages > vm.totalPages - 1, 'a page was never sent');
  }
  require(result.barrierHeld, 'the barrier did not hold');
}

/** Checks the barrier, in an aborted round too: a member that has undone is no part of a cut. */
function barrierKept(members: readonly ModelledMember[]): boolean {
  const resumed = members.map(({ record }) => record.resumedAtMs).filter((at) => !Number.isNaN(at));
  if (resumed.length === 0) return true;
  const first = resumed.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return members.every(({ record }) => record.stoppedAtMs <= first);
}
