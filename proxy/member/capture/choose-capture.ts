/**
 * Chooses a member's capture: the first of those allowed that nothing is in the way of. It tries
 * them. The report names every capture that was preferred, and why it was not taken.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import { type Failure, UmbraError } from '../../failure/failure.ts';
import type { CaptureMode, PrepareCommand } from '../../protocol/member.ts';
import { writableDisks } from '../qemu/disks.ts';
import { otherWriters } from '../qemu/machine.ts';
import type { Tracking } from '../tracking/tracking.ts';
import { type BackgroundOptions, backgroundObstacles } from './background-support.ts';
import { type PrecopyOptions, precopyObstacle } from './precopy-support.ts';
import type { TrackedChance, TrackingStart } from './tracked-support.ts';

export type CaptureOptions = BackgroundOptions & PrecopyOptions;

export interface Choice {
  readonly mode: CaptureMode;
  /** The reasons against the captures that were preferred, in words. */
  readonly reason: string | undefined;
  /** Tracking of a VM whose next epoch is tracked. */
  readonly tracking?: Tracking;
  /** Begins with this epoch, which is the base of those that are tracked. */
  readonly begins?: TrackingStart;
}

/** Captures that can be the base of tracked ones. A background snapshot watches memory itself. */
const BASES: ReadonlySet<CaptureMode> = new Set(['precopy', 'stop-copy']);

/**
 * Chooses a capture.
 *
 *     tracked   if what was written since the newest epoch is known; else it begins with the first
 *               base that is allowed and before which no other capture is
 *
 * @param findChance finds out about a tracked capture; called if it is among those allowed
 * @throws UmbraError E_CAPTURE_UNSAFE, E_DISK_IN_USE, E_BACKGROUND_UNSUPPORTED,
 * E_BACKGROUND_DISKS, E_TRACKING_UNSUPPORTED
 */
export async function chooseCapture(
  qmp: QmpClient,
  options: CaptureOptions & Pick<PrepareCommand, 'capture'>,
  findChance: () => Promise<TrackedChance>,
): Promise<Choice> {
  const refusals: Failure[] = [];
  let begins: TrackingStart | undefined;
  for (const mode of options.capture) {
    if (mode === 'tracked') {
      const chance = await findChance();
      if (chance.kind === 'later') {
        return { mode, reason: inWords(refusals), tracking: chance.tracking };
      }
      if (chance.kind === 'base') begins = chance.start;
      refusals.push(notTracked(chance.why));
      continue;
    }
    // A background snapshot is no base, and would end what has begun.
    if (begins !== undefined && mode === 'background' && hasBase(options.capture)) continue;
    const refusal = await refusalOf(mode, qmp, options);
    if (refusal === undefined) {
      const base = begins !== undefined && BASES.has(mode) && { begins };
      return { mode, reason: inWords(refusals), ...base };
    }
    refusals.push(refusal);
  }
  const [first] = refusals;
  if (first === undefined) throw new Error('no capture to choose from');
  throw UmbraError.received({ code: first.code, message: inWords(refusals) ?? '' });
}

function hasBase(captures: readonly CaptureMode[]): boolean {
  return captures.some((mode) => BASES.has(mode));
}

function inWords(refusals: readonly Failure[]): string | undefined {
  return refusals.length === 0 ? undefined : refusals.map(({ message }) => message).join('; ');
}

function notTracked(why: string): Failure {
  return { code: 'E_TRACKING_UNSUPPORTED', message: `not tracked: ${why}` };
}

async function refusalOf(
  mode: Exclude<CaptureMode, 'tracked'>,
  qmp: QmpClient,
  options: CaptureOptions,
): Promise<Failure | undefined> {
  if (mode !== 'background' && options.disks === 'snapshot') {
    const disks = await writableDisks(qmp, options.workingDirectory);
    const names = disks.map(({ device }) => device).join(', ');
    const message = `${mode} would leave ${names} out of the epoch (round.disks: snapshot)`;
    if (disks.length > 0) return { code: 'E_BACKGROUND_DISKS', message };
  }
  if (mode !== 'background') {
    const writers = await otherWriters(qmp);
    const message = `${mode} would fail, the VM stopped: a disk is held by ${writers.join(', ')}`;
    if (writers.length > 0) return { code: 'E_DISK_IN_USE', message };
  }
  if (mode === 'stop-copy') return undefined;
  if (mode === 'precopy') {
    const message = await precopyObstacle(qmp, options);
    return message === undefined ? undefined : { code: 'E_CAPTURE_UNSAFE', message };
  }
  const [first, ...more] = await backgroundObstacles(qmp, options);
  if (first === undefined) return undefined;
  const words = [first, ...more].map(({ message }) => message).join('; ');
  return { code: first.code, message: `no background snapshot: ${words}` };
}
