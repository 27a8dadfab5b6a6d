/**
 * Chooses a member's capture: the first of those allowed that nothing is in the way of. It tries
 * them. The report names every capture that was preferred, and why it was not taken.
 */
import type { QmpClient } from '../../../qmp/index.ts';
import { type Failure, UmbraError } from '../../failure/failure.ts';
import type { CaptureMode, PrepareCommand } from '../../protocol/member.ts';
import { ownMergesEnd, snapshotObstacle, writableDisks } from '../qemu/disks.ts';
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

/** The longest that merges of layers are waited for, which rule precopy and stop-copy out. */
const MERGE_LIMIT_MS = 10_000;

/** Captures that can be the base of tracked ones. A background snapshot watches memory itself. */
const BASES: ReadonlySet<CaptureMode> = new Set(['precopy', 'stop-copy']);

/**
 * Chooses a capture.
 *
 *     tracked   if what was written since the newest epoch is known; else it begins with precopy,
 *               if that is allowed, also before a background snapshot; or with stop-copy
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
      const disks = chance.kind === 'none' ? undefined : await diskRefusal(qmp, options);
      if (disks !== undefined) {
        if (chance.kind === 'later') chance.tracking.close();
        refusals.push(disks);
        continue;
      }
      if (chance.kind === 'later') {
        return { mode, reason: inWords(refusals), tracking: chance.tracking };
      }
      if (chance.kind === 'base') begins = chance.start;
      refusals.push(notTracked(chance.why));
      continue;
    }
    // A background snapshot is no base: precopy is better, which is one. Stop-copy is not.
    if (mode === 'background' && begins !== undefined && options.capture.includes('precopy')) {
      const refused = await refusalOf('precopy', qmp, options);
      if (refused === undefined) return { mode: 'precopy', reason: inWords(refusals), begins };
    }
    const refusal = await refusalOf(mode, qmp, options);
    if (refusal === undefined) {
      const base = begins !== undefined && BASES.has(mode) && { begins };
      return { mode, reason: inWords(refusals), ...base };
    }
    refusals.push(refusal);
  }
  throw UmbraError.received(refusalOfAll(refusals, begins !== undefined));
}

/**
 * Puts refusals of all captures into one. It has the code of a capture that stands by itself, if
 * one was allowed: a tracked one needs a base that they would have been.
 */
function refusalOfAll(refusals: readonly Failure[], couldBeTracked: boolean): Failure {
  const others = refusals.filter(({ code }) => code !== 'E_TRACKING_UNSUPPORTED');
  const [first] = others.length > 0 ? others : refusals;
  if (first === undefined) throw new Error('no capture to choose from');
  const said = couldBeTracked && others.length > 0 ? others : refusals;
  return { code: first.code, message: inWords(said) ?? '' };
}

function inWords(refusals: readonly Failure[]): string | undefined {
  return refusals.length === 0 ? undefined : refusals.map(({ message }) => message).join('; ');
}

function notTracked(why: string): Failure {
  return { code: 'E_TRACKING_UNSUPPORTED', message: `not tracked: ${why}` };
}

/** Returns why disks that are to be part of epochs cannot be; undefined if they can, or are not. */
async function diskRefusal(
  qmp: QmpClient,
  { disks: mode, workingDirectory, domainXml }: Omit<CaptureOptions, 'vm'>,
): Promise<Failure | undefined> {
  if (mode === 'leave') return undefined;
  const disks = await writableDisks(qmp, workingDirectory);
  const [why] = disks.flatMap((disk) => snapshotObstacle(disk, domainXml !== undefined) ?? []);
  return why === undefined ? undefined : { code: 'E_BACKGROUND_DISKS', message: why };
}

/** Refuses disks of a QEMU that may end precopy by itself: it lets go of them before they stand. */
async function earlyEnd(
  mode: CaptureMode,
  qmp: QmpClient,
  { disks: how, workingDirectory }: CaptureOptions,
): Promise<Failure | undefined> {
  const { major, minor } = qmp.version;
  const waits = major > 8 || (major === 8 && minor >= 1); // switchover-ack
  if (mode !== 'precopy' || how === 'leave' || waits) return undefined;
  const names = (await writableDisks(qmp, workingDirectory)).map(({ device }) => device).join(', ');
  const message = `precopy: QEMU ${major}.${minor} may end before ${names} is frozen (8.1 waits)`;
  return names === '' ? undefined : { code: 'E_BACKGROUND_DISKS', message };
}

async function refusalOf(
  mode: Exclude<CaptureMode, 'tracked'>,
  qmp: QmpClient,
  options: CaptureOptions,
): Promise<Failure | undefined> {
  if (mode !== 'background') {
    const disks = (await diskRefusal(qmp, options)) ?? (await earlyEnd(mode, qmp, options));
    if (disks !== undefined) return disks;
    await ownMergesEnd(qmp, MERGE_LIMIT_MS);
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
