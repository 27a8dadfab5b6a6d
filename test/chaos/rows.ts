/** The matrix: what is under way, where a process stands, and what happens to whom while it does. PURE. */
import { LOAD_STEPS, RELAY_STEPS, RESTORE_STEPS } from '../../proxy/failure/fault-point.ts';
import { STATE_NAMES } from '../../proxy/member/capture/session.ts';
import { PERSIST_STEPS } from '../../shadow/durable/index.ts';
import { STORE_STEPS } from '../../shadow/index.ts';

export type Victim =
  /** The process that stands at the place. */
  | 'it is killed'
  /** It stays frozen until the command has ended; a daemon that is asked to restore, for a while. */
  | 'it is frozen'
  | 'QEMU is killed'
  /** Of a checkpoint: the others' VMs run again without its answer; then it goes on. */
  | 'QEMU is frozen'
  /** Another process than the one that stands there. */
  | 'the daemon is killed'
  | 'all of ours are killed'
  /** Of a migration that goes through the relay. */
  | 'the destination is killed'
  | 'the cable is cut'
  /** Of the tmpfs with the shadows, or of the disk that epochs are persisted to. */
  | 'no room is left'
  /** Of the disk: so slow, until the epoch is there. */
  | 'the disk is slow'
  /** Whoever asks it for something waits, and cannot be killed; after a while it goes on. */
  | 'the disk hangs';

/** A cluster that rows share. */
export type BedKind =
  | 'precopy'
  | 'background'
  /** Whoever is cut stands until all are, and its disk is frozen before it runs on. */
  | 'all-stopped'
  | 'small store'
  | 'fold'
  | 'disk'
  | 'libvirt';

export interface ChaosRow {
  readonly name: string;
  readonly during: 'checkpoint' | 'restore' | 'fold' | 'persist' | 'migration';
  readonly bed: BedKind;
  /** A name of proxy/failure/fault-point.ts. */
  readonly location: string;
  readonly victim: Victim;
}

/** States in which the coordinator is about to do something. */
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
const ANYONE: readonly Victim[] = ['it is killed', 'it is frozen', QEMU];
const DAEMON = 'the daemon is killed';
const ALL_OF_OURS = 'all of ours are killed';
/** Of a member that stands until all are cut: before, while, and when it runs again. */
const STANDING = ['stopping', 'stopped', 'resuming', 'saving'].map((state) => `member/n0/${state}`);
const OF_A_RELAY: readonly Victim[] = ['the destination is killed', 'the cable is cut'];
const NO_ROOM = 'no room is left';
const OF_A_DISK: readonly Victim[] = [NO_ROOM, 'the disk is slow', 'the disk hangs'];
/** Steps of a restore at which there is no QEMU, or its death is the restore's concern no more. */
const WITHOUT_QEMU = new Set(['restore/killed', 'restore/begun', 'restore/resumed']);
/** What comes from disk comes before everything else. */
const FETCHED = 'fetched';

/** All of it, in the order in which it is run. */
export function allRows(): ChaosRow[] {
  return [
    ...roundRows('precopy'),
    ...roundRows('background'),
    ...at('checkpoint', 'all-stopped', STANDING, ANYONE, FROZEN_QEMU, DAEMON, ALL_OF_OURS),
    ...restoreRows(),
    ...at('checkpoint', 'precopy', storeSteps('commit', 'retire', 'collect'), ANYONE, ALL_OF_OURS),
    ...at('checkpoint', 'small store', memberPlaces('precopy'), [], NO_ROOM),
    ...at('fold', 'fold', storeSteps('fold'), ANYONE, ALL_OF_OURS),
    ...at('persist', 'disk', persistSteps(), ANYONE, ALL_OF_OURS, ...OF_A_DISK),
    ...at('migration', 'libvirt', relaySteps(), ANYONE, ...OF_A_RELAY),
  ];
}

function roundRows(bed: 'precopy' | 'background'): ChaosRow[] {
  const places = ROUND_STATES.map((state) => `round/${state}`);
  return [
    ...at('checkpoint', bed, places, ANYONE, ALL_OF_OURS),
    ...at('checkpoint', bed, memberPlaces(bed), ANYONE, FROZEN_QEMU, DAEMON, ALL_OF_OURS),
  ];
}

function restoreRows(): ChaosRow[] {
  const places = RESTORE_STEPS.filter((step) => step !== FETCHED).map((step) => `restore/${step}`);
  const proxies = LOAD_STEPS.map((step) => `restore/n0/${step}`);
  const hasQemu = ({ location: where, victim }: ChaosRow) =>
    victim !== QEMU || !WITHOUT_QEMU.has(where);
  return [
    ...at('restore', 'precopy', places, ANYONE, ALL_OF_OURS).filter(hasQemu),
    ...at('restore', 'precopy', proxies, ANYONE, DAEMON, ALL_OF_OURS),
    ...at('restore', 'disk', [`restore/${FETCHED}`], ['it is killed', 'it is frozen'], ALL_OF_OURS),
  ];
}

/** A precopy is whole when it resumes: there is nothing left to save. */
function memberPlaces(bed: 'precopy' | 'background'): string[] {
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
