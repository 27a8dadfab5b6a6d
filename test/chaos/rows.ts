/** The kill matrix: what is under way, where a process is frozen, and what happens then. PURE. */
import {
  LOAD_STEPS,
  RELAY_STEPS,
  RESTORE_STEPS,
  TRACKING_STEPS,
} from '../../proxy/failure/fault-point.ts';
import { STATE_NAMES } from '../../proxy/member/capture/session.ts';
import { PERSIST_STEPS } from '../../shadow/durable/index.ts';
import { STORE_STEPS } from '../../shadow/index.ts';

export type Victim =
  /** The process that is frozen at the place. */
  | 'it is killed'
  /** Stays frozen until the command has ended; a daemon that restores, for a while. */
  | 'it is frozen'
  | 'QEMU is killed'
  /** Frozen in a checkpoint: the other VMs run again without its answer; then it continues. */
  | 'QEMU is frozen'
  /** Killed while another process is frozen at the place. */
  | 'the daemon is killed'
  | 'all of ours are killed'
  /** Destination of a migration through the relay. */
  | 'the destination is killed'
  | 'the cable is cut'
  /** Room of the tmpfs with the shadows, or of the disk that epochs are persisted to. */
  | 'no room is left'
  /** Slow until the epoch is on disk. */
  | 'the disk is slow'
  /** Blocks processes that access it, unkillably; after a while it works again. */
  | 'the disk hangs';

/** Kind of cluster that rows share. */
export type BedKind =
  | 'precopy'
  | 'background'
  | 'tracked'
  /** A VM that is cut stays stopped until all are cut, and its disk is frozen before it runs on. */
  | 'all-stopped'
  | 'small store'
  | 'fold'
  | 'disk'
  | 'libvirt';

export interface ChaosRow {
  readonly name: string;
  readonly during: 'checkpoint' | 'restore' | 'fold' | 'persist' | 'migration';
  readonly bed: BedKind;
  /** Name of a fault point (proxy/failure/fault-point.ts). */
  readonly location: string;
  readonly victim: Victim;
}

/** States of a round in which the coordinator acts next. */
const ROUND_STATES = [
  'admitting',
  'opening',
  'live',
  'stopping',
  'draining',
  'committing',
  'committed',
];
const PASSIVE = new Set(['idle', 'undoing']);
const QEMU = 'QEMU is killed';
const FROZEN_QEMU = 'QEMU is frozen';
/** Victims at every place: the frozen process itself, or QEMU. */
const ANY: readonly Victim[] = ['it is killed', 'it is frozen', QEMU];
const DAEMON = 'the daemon is killed';
const ALL_OF_OURS = 'all of ours are killed';
/**
 * States of a member of an all-stopped cut: before it is stopped, while, and when it runs again.
 */
const STANDING = ['stopping', 'stopped', 'resuming', 'saving'].map((state) => `member/n0/${state}`);
const OF_A_RELAY: readonly Victim[] = ['the destination is killed', 'the cable is cut'];
const NO_ROOM = 'no room is left';
const OF_A_DISK: readonly Victim[] = [NO_ROOM, 'the disk is slow', 'the disk hangs'];
/** Steps of a restore at which there is no QEMU, or its death no longer concerns the restore. */
const WITHOUT_QEMU = new Set(['restore/killed', 'restore/begun', 'restore/resumed']);
/** Step at which the epoch was fetched from disk, before any other step. */
const FETCHED = 'fetched';

/** Returns all rows in the order in which they are run. */
export function allRows(): ChaosRow[] {
  return [
    ...roundRows('precopy'),
    ...roundRows('background'),
    ...roundRows('tracked'),
    ...at('checkpoint', 'tracked', trackingSteps(), ANY, FROZEN_QEMU, DAEMON, ALL_OF_OURS),
    ...at('checkpoint', 'all-stopped', STANDING, ANY, FROZEN_QEMU, DAEMON, ALL_OF_OURS),
    ...restoreRows(),
    ...at('checkpoint', 'precopy', storeSteps('commit', 'retire', 'collect'), ANY, ALL_OF_OURS),
    ...at('checkpoint', 'small store', memberPlaces('precopy'), [], NO_ROOM),
    ...at('fold', 'fold', storeSteps('fold'), ANY, ALL_OF_OURS),
    ...at('persist', 'disk', persistSteps(), ANY, ALL_OF_OURS, ...OF_A_DISK),
    ...at('migration', 'libvirt', relaySteps(), ANY, ...OF_A_RELAY),
  ];
}

function roundRows(bed: 'precopy' | 'background' | 'tracked'): ChaosRow[] {
  const places = ROUND_STATES.map((state) => `round/${state}`);
  return [
    ...at('checkpoint', bed, places, ANY, ALL_OF_OURS),
    ...at('checkpoint', bed, memberPlaces(bed), ANY, FROZEN_QEMU, DAEMON, ALL_OF_OURS),
  ];
}

function restoreRows(): ChaosRow[] {
  const places = RESTORE_STEPS.filter((step) => step !== FETCHED).map((step) => `restore/${step}`);
  const proxies = LOAD_STEPS.map((step) => `restore/n0/${step}`);
  const hasQemu = ({ location: where, victim }: ChaosRow) =>
    victim !== QEMU || !WITHOUT_QEMU.has(where);
  return [
    ...at('restore', 'precopy', places, ANY, ALL_OF_OURS).filter(hasQemu),
    ...at('restore', 'precopy', proxies, ANY, DAEMON, ALL_OF_OURS),
    ...at('restore', 'disk', [`restore/${FETCHED}`], ['it is killed', 'it is frozen'], ALL_OF_OURS),
  ];
}

/** Returns a member's states. Precopy has saved all when the VM resumes, and has no `saving`. */
function memberPlaces(bed: 'precopy' | 'background' | 'tracked'): string[] {
  return STATE_NAMES.filter((state) => !PASSIVE.has(state))
    .filter((state) => bed === 'background' || state !== 'saving')
    .map((state) => `member/n0/${state}`);
}

function storeSteps(...of: readonly string[]): string[] {
  return STORE_STEPS.filter((step) => of.includes(step.split('/')[0] ?? '')).map(
    (step) => `store/${step}`,
  );
}

function relaySteps(): string[] {
  return RELAY_STEPS.map((step) => `relay/${step}`);
}

function trackingSteps(): string[] {
  return TRACKING_STEPS.map((step) => `tracking/n0/${step}`);
}

/** Tells whether tracking begins at this place: the VM must not be tracked before. */
export function beginsTracking({ location }: Pick<ChaosRow, 'location'>): boolean {
  return /^tracking\/n0\/(injecting|injected|watched)$/.test(location);
}

function persistSteps(): string[] {
  return PERSIST_STEPS.map((step) => `persist/${step}`);
}

function at(
  during: ChaosRow['during'],
  bed: BedKind,
  places: readonly string[],
  victims: readonly Victim[],
  ...more: readonly Victim[]
): ChaosRow[] {
  return places.flatMap((location) =>
    [...victims, ...more].map((victim) => {
      return { name: `${during} (${bed}), ${location}: ${victim}`, during, bed, location, victim };
    }),
  );
}
