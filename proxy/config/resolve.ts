/** Turns a cluster.yaml whose every option is right into paths and quantities. PURE. */
import { join, resolve } from 'node:path';
import { clusterFolder } from '../host/folders.ts';
import type {
  ClusterConfig,
  MemberConfig,
  PersistConfig,
  ScheduleConfig,
  StoreConfig,
} from '../protocol/cluster.ts';
import { CAPTURES, type CaptureMode, type RoundConfig } from '../protocol/round-settings.ts';
import { fillIn } from './members.ts';
import { ROUND_DEFAULTS } from './round-options.ts';
import { type ClusterFile, DEFAULTS } from './schema.ts';

/** Folders of a cluster, absolute. */
export interface ClusterPaths {
  /** The cluster's own. */
  readonly directory: string;
  /** The store's; the cluster's own by default. */
  readonly store: string;
  /** The folder of its epochs on disk. */
  readonly durable: string | undefined;
}

/**
 * Resolves the folders of a cluster.
 * @param directory the cluster's own
 * @param base the folder of cluster.yaml: relative paths are relative to it
 */
export function resolvePaths(file: ClusterFile, directory: string, base: string): ClusterPaths {
  const { cluster, store, persist } = file;
  // With the cluster's name: several may share a store, and none may touch another's shadows.
  const inFolder = (path: string) => join(resolve(base, path), cluster);
  return {
    directory,
    store: store.directory === undefined ? directory : inFolder(store.directory),
    durable: persist && inFolder(persist.to),
  };
}

/** Resolves a file. @param members as resolveMembers has found them */
export function resolveCluster(
  file: ClusterFile,
  paths: ClusterPaths,
  members: readonly MemberConfig[],
): ClusterConfig {
  const { cluster, round, store, epochs, restore, network, checkpoint } = file;
  return {
    cluster,
    directory: paths.directory,
    shadowsDirectory: clusterFolder(paths.store, 'shadows'),
    catalogueDirectory: clusterFolder(paths.directory, 'epochs'),
    members,
    round: roundOf(round),
    store: storeOf(store),
    schedule: checkpoint && scheduleOf(checkpoint),
    epochs: { keep: epochs.keep, keepForMs: epochs.keepFor },
    persist: persistOf(file, paths.durable),
    restore,
    switchSockets: switchSockets(network?.switch ?? [], members),
  };
}

function roundOf(round: ClusterFile['round']): RoundConfig {
  const { cut, disks, hugePages, compareEmulated, prove } = round;
  return {
    capture: capturesOf(round.capture),
    cut,
    disks,
    hugePages,
    compareEmulated,
    prove,
    stopDeadlineMs: round.stopDeadline,
    // Whatever else is listed, the live phase ends by the bound or by its maximum.
    endWhen: [
      ...round.endWhen,
      { kind: 'memory-bound', factor: round.memoryBound },
      { kind: 'elapsed', ms: round.maxLive },
    ],
    multiplexing: multiplexingOf(round),
    inFlightBytes: round.inFlight,
  };
}

function capturesOf(capture: ClusterFile['round']['capture']): readonly CaptureMode[] {
  if (capture === 'auto') return CAPTURES;
  return typeof capture === 'string' ? [capture] : capture;
}

function multiplexingOf(round: ClusterFile['round']): RoundConfig['multiplexing'] {
  const { multiplexing: kind, slot: slotMs = ROUND_DEFAULTS.slotMs } = round;
  const { slots: atOnce = ROUND_DEFAULTS.slots, dirtyShare = ROUND_DEFAULTS.dirtyShare } = round;
  return kind === 'parallel' ? { kind, slotMs, dirtyShare } : { kind, slotMs, atOnce };
}

function storeOf(store: ClusterFile['store']): StoreConfig {
  const { recycle, delta, foldAt, whenFull, queueLimit = DEFAULTS.queueLimitMs } = store;
  return {
    headroomBytes: store.headroom,
    budgetBytes: store.budget,
    recycle,
    delta,
    foldAt,
    queueLimitMs: whenFull === 'queue' ? queueLimit : 0,
  };
}

function persistOf(
  { persist, epochs }: ClusterFile,
  directory: string | undefined,
): PersistConfig | undefined {
  if (persist === undefined || directory === undefined) return undefined;
  const { mode, rate, parallel, keep = epochs.keep } = persist;
  const { timeLimit: timeLimitMs = DEFAULTS.persistLimitMs } = persist;
  return { directory, mode, rate, parallel, keep, timeLimitMs };
}

function scheduleOf({
  every,
  mtbf = 0,
  liveSlowdown = DEFAULTS.liveSlowdown,
}: NonNullable<ClusterFile['checkpoint']>): ScheduleConfig {
  return every === 'optimal'
    ? { interval: { kind: 'optimal', mtbfMs: mtbf }, liveSlowdown }
    : { interval: { kind: 'fixed', everyMs: every }, liveSlowdown };
}

function switchSockets(templates: readonly string[], members: readonly MemberConfig[]): string[] {
  const paths = members.flatMap((member, index) =>
    templates.map((template) => fillIn(template, member, index)),
  );
  return [...new Set(paths)];
}
