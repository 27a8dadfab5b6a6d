/**
 * Finds out whether a VM's next epoch can be a tracked one:
 *
 *     it is tracked, and what was written since the newest epoch is known    later
 *     it can be tracked from now on; this epoch is the base                  base
 *     something is in the way                                                none
 */
import type { QmpClient } from '../../../qmp/index.ts';
import type { PrepareCommand } from '../../protocol/member.ts';
import { ramBlocks } from '../qemu/memory.ts';
import { findBlocks } from '../tracking/blocks.ts';
import type { WatchedBlock } from '../tracking/ledger.ts';
import { memoryObstacle, trackingObstacle } from '../tracking/support.ts';
import { type TrackedVm, Tracking } from '../tracking/tracking.ts';
import { isEmulated } from './precopy-support.ts';

/** The part of a round's command that matters here. */
export type TrackedOptions = Pick<PrepareCommand, 'vm' | 'staging' | 'domainXml' | 'examined'>;

/** Everything that tracking needs to begin. */
export interface TrackingStart {
  readonly tracked: TrackedVm;
  readonly blocks: readonly WatchedBlock[];
  readonly withKvm: boolean;
}

export type TrackedChance =
  | { readonly kind: 'later'; readonly tracking: Tracking }
  | { readonly kind: 'base'; readonly start: TrackingStart; readonly why: string }
  | { readonly kind: 'none'; readonly why: string };

/**
 * Returns what is in the way of tracked captures of a VM, in words; undefined if nothing is.
 * Changes nothing of the VM.
 */
export async function trackedObstacle(
  qmp: QmpClient,
  options: Omit<TrackedOptions, 'staging'>,
  member: Omit<TrackedVm, 'vm'>,
): Promise<string | undefined> {
  const staging = { admittedBytes: 0, moreBytes: 0, headroomBytes: 0 };
  const chance = await findTrackedChance(qmp, { ...options, staging }, member);
  if (chance.kind === 'later') chance.tracking.close();
  return chance.kind === 'none' ? chance.why : undefined;
}

/**
 * Finds the chance. Changes nothing of the VM.
 * @param member its name and its own folder
 */
export async function findTrackedChance(
  qmp: QmpClient,
  { vm, staging, domainXml, examined }: TrackedOptions,
  member: Omit<TrackedVm, 'vm'>,
): Promise<TrackedChance> {
  if (vm === undefined) return { kind: 'none', why: 'its process is not known' };
  const { writers } = examined;
  if (writers.length > 0) return { kind: 'none', why: writers.join('; ') };
  const tracked = { vm, ...member };
  const { parent } = staging;
  const blocks = await ramBlocks(qmp);
  const tracking = Tracking.adopt(tracked, blocks);
  if (tracking !== undefined && parent && tracking.ledger.knowsSince(parent.cut)) {
    return { kind: 'later', tracking };
  }
  tracking?.close();
  try {
    const isDomain = domainXml !== undefined;
    const why = await trackingObstacle(qmp, { vm, isDomain });
    if (why !== undefined) return { kind: 'none', why };
    const found = await findBlocks(qmp, vm, blocks);
    const ofMemory = memoryObstacle(found, examined.machine.balloon);
    if (ofMemory !== undefined) return { kind: 'none', why: ofMemory };
    const start = { tracked, blocks: found, withKvm: !(await isEmulated(qmp)) };
    const begins = 'it is tracked from now on';
    const lost = 'what it has written since the newest epoch is not known';
    return { kind: 'base', start, why: tracking === undefined ? begins : lost };
  } catch (error) {
    return { kind: 'none', why: (error as Error).message };
  }
}
