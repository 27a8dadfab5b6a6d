/**
 * Finds out whether a VM's next epoch can be a tracked one:
 *
 *     it is tracked, and what was written since the newest epoch is known    later
 *     it can be tracked from now on; this epoch is the base                  base
 *     something is in the way                                                none
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { PrepareCommand } from '../../protocol/member.ts';
import { type FoundBlock, findBlocks } from '../tracking/blocks.ts';
import { memoryObstacle, trackingObstacles } from '../tracking/support.ts';
import { type TrackedVm, Tracking } from '../tracking/tracking.ts';
import { isEmulated } from './precopy-support.ts';

/** The part of a round's command that matters here. */
export type TrackedOptions = Pick<PrepareCommand, 'vm' | 'staging' | 'domainXml'>;

/** Everything that tracking needs to begin. */
export interface TrackingStart {
  readonly tracked: TrackedVm;
  readonly blocks: readonly FoundBlock[];
  readonly withKvm: boolean;
}

export type TrackedChance =
  | { readonly kind: 'later'; readonly tracking: Tracking }
  | { readonly kind: 'base'; readonly start: TrackingStart; readonly why: string }
  | { readonly kind: 'none'; readonly why: string };

/**
 * Finds the chance. Changes nothing of the VM.
 * @param member its name and its own folder
 */
export async function findTrackedChance(
  qmp: QmpClient,
  { vm, staging, domainXml }: TrackedOptions,
  member: Omit<TrackedVm, 'vm'>,
): Promise<TrackedChance> {
  const obstacles = await trackingObstacles(qmp, { vm, isDomain: domainXml !== undefined });
  if (vm === undefined || obstacles.length > 0) return { kind: 'none', why: obstacles.join('; ') };
  let blocks: readonly FoundBlock[];
  try {
    blocks = await findBlocks(qmp, vm);
  } catch (error) {
    return { kind: 'none', why: (error as Error).message };
  }
  const why = await memoryObstacle(qmp, blocks);
  if (why !== undefined) return { kind: 'none', why };
  const tracked = { vm, ...member };
  const withKvm = !(await isEmulated(qmp));
  const start = { tracked, blocks, withKvm };
  const tracking = Tracking.adopt(tracked, blocks, withKvm);
  if (tracking === undefined) return { kind: 'base', start, why: 'it is tracked from now on' };
  const { parent } = staging;
  if (parent !== undefined && tracking.ledger.knowsSince(parent.cut)) {
    return { kind: 'later', tracking };
  }
  tracking.close();
  return { kind: 'base', start, why: 'what it has written since the last epoch is not known' };
}
