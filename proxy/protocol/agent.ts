/**
 * What a coordinator asks of an agent. Everything that crosses is plain data, so that an agent may
 * be in the same process or on another host.
 */

import type { PersistProgress, PersistResult } from '../../shadow/durable/index.ts';
import type { EpochManifest } from '../../shadow/index.ts';
import type { Failure } from '../failure/failure.ts';
import type { ClusterConfig } from './cluster.ts';
import type { RestoredDisk } from './disk-layer.ts';
import type { DurableList, DurableRequest } from './durable.ts';

export type { DurableList, DurableRequest };

import type { DomainPlan, MemberSample, RoundFacts, SessionMilestone } from './member.ts';
import type { MemberRestored } from './report.ts';
import type { RestoreChoice, RestoreMode } from './restore-mode.ts';
import type { RoundSettings } from './round-settings.ts';
import type { MemberStatus } from './status.ts';

export type { MemberRestored, MemberStatus, RoundSettings };

export type AgentCommand =
  | 'open'
  | 'start'
  | 'flow'
  | 'hold'
  | 'close-in'
  | 'stop'
  | 'barrier'
  | 'commit'
  | 'abort';

/** What a member's session reports, and that its proxy is gone. */
export type MemberMilestone = SessionMilestone | 'gone';

export type AgentNotice =
  | {
      readonly type: 'report';
      readonly member: string;
      readonly round: string;
      readonly report: MemberMilestone;
      readonly facts: RoundFacts;
      readonly failure?: Failure;
    }
  | {
      readonly type: 'sample';
      readonly member: string;
      readonly round: string;
      readonly sample: MemberSample;
    };

export interface Admission {
  /** Bytes that will be reserved for the round's shadows on this host. */
  readonly neededBytes: number;
  /** Bytes left in the memory budget; infinite without one. */
  readonly freeBytes: number;
}

export interface RestorePlan {
  readonly member: string;
  readonly mode: RestoreMode;
  /** Why it is not `map`, when the caller left the choice open. */
  readonly reason: string | undefined;
  readonly commandLine: readonly string[];
  /** How the VM is to be started another time: as it was at first, not as it is restored. */
  readonly recordedCommandLine: readonly string[];
  readonly workingDirectory: string;
  readonly shadowDirectory: string;
  /** Of a VM that libvirt is to start, instead of a command line. */
  readonly domain?: DomainPlan;
  /** What its disks are to be; they are named in the command line, and not made yet. */
  readonly disks: readonly RestoredDisk[];
  /** The folder whose image of main RAM the VM will map, if it does. */
  readonly mappedDirectory: string | undefined;
}

/** Another cluster, whose epoch is to run here as well. */
export interface CloneOrigin {
  readonly source: ClusterConfig;
  /** Unplug network cards that cannot have a network of their own. */
  readonly disconnect: boolean;
}

/** As much of an agent as a restore asks for. */
export type RestoringAgent = Pick<
  Agent,
  | 'verify'
  | 'planRestore'
  | 'alivePids'
  | 'killVm'
  | 'beginRestore'
  | 'endRestore'
  | 'load'
  | 'resume'
>;

/** What was begun to be folded. */
export interface FoldUnderWay {
  /** How the epoch is to name its new shadows. Rejects as `beginFold`; what was staged is gone then. */
  readonly members: Promise<EpochManifest['members']>;
}

export interface Agent {
  readonly members: readonly string[];
  onNotice(listener: (notice: AgentNotice) => void): void;
  status(): Promise<MemberStatus[]>;
  /**
   * Checks every member, the memory budget and the host's room; changes nothing.
   * @throws UmbraError E_BUDGET, E_STORE_NO_ROOM: it may fit later; others: why it cannot be
   */
  admit(): Promise<Admission>;
  /** Makes the folder a round's shadows are staged in; it stays until all members and `endRound` have let go. */
  beginRound(round: string): Promise<void>;
  /** What was staged in that folder, by a round or by `fold`, is named now, or never will be. */
  endRound(round: string): void;
  prepare(round: string, member: string, settings: RoundSettings): void;
  command(round: string, member: string, command: AgentCommand): void;
  /** A sign of the coordinator's life, for members in a round; proxies silent for longer end. */
  alive(silenceMs: number): void;
  /**
   * Removes shadows no epoch needs; their memory is kept for the next round, as configured, or given
   * back to the host.
   */
  collect(how: 'recycle' | 'free'): Promise<readonly string[]>;
  /**
   * Takes back what VMs have made of holes of the images they have mapped; no round is under way. Images that
   * somebody reads are left for the next time.
   */
  reclaimHoles(): Promise<void>;
  /**
   * Begins to merge layers over the members' disks that no epoch names, and removes those nobody uses. What
   * VMs that do not run would use is not known, and stays.
   * @param epochs all there are
   */
  tidyDisks(epochs: readonly EpochManifest[]): Promise<void>;
  /** Bytes an epoch's deltas hold ÷ bytes of the shadows they are deltas of; 0 without deltas. */
  deltaShare(epoch: EpochManifest): Promise<number>;
  /**
   * Begins to write an epoch's shadows anew, as full ones, in the folder of `round`. Nothing names them yet.
   * No round is under way; while it goes on, one may be.
   * @returns when it is admitted
   * @throws UmbraError E_BUDGET, E_STORE_NO_ROOM, E_EPOCH_CORRUPT
   */
  beginFold(epoch: EpochManifest, round: string, signal: AbortSignal): Promise<FoldUnderWay>;
  verify(epoch: EpochManifest, mode: 'changed' | 'all'): Promise<void>;
  /**
   * Brings its members' shadows of an epoch to disk; one epoch at a time.
   * @throws UmbraError E_PERSIST_ENDED after `endPersist`
   */
  persist(
    epoch: EpochManifest,
    onProgress: (progress: PersistProgress) => void,
  ): Promise<PersistResult>;
  endPersist(): void;
  /** Asks for, or changes, the list of what is on disk; one question at a time. @throws UmbraError */
  durable(request: DurableRequest): Promise<DurableList>;
  /** How long somebody has waited for that disk, if longer than a working one lets one wait. */
  durableSilentMs(): number | undefined;
  /**
   * Brings an epoch from disk into the store, as far as it is not there. It stays until `endFetch`.
   * @param trust how closely to look at what is there
   * @returns bytes fetched
   */
  fetch(
    epoch: EpochManifest,
    trust: 'changed' | 'all',
    onProgress: (progress: PersistProgress) => void,
  ): Promise<number>;
  /** What `fetch` has brought, or was to bring, is named now, or never will be. */
  endFetch(): void;
  /** Reads every byte of an epoch on disk. */
  verifyDurable(epoch: EpochManifest): Promise<void>;
  planRestore(epoch: EpochManifest, mode: RestoreChoice): Promise<RestorePlan[]>;
  /** Members whose VM is alive. */
  alivePids(): Promise<ReadonlyMap<string, number>>;
  killVm(member: string): Promise<void>;
  /** From here to `endRestore`, what `load` starts is undone if we die. */
  beginRestore(): Promise<void>;
  /** `undo` kills what this restore has started, and nothing else. */
  endRestore(how: 'done' | 'undo'): Promise<void>;
  /** Restores epochs of another cluster into this one's members. Changes nothing of the other's. */
  cloneOf(origin: CloneOrigin): RestoringAgent;
  /** Starts QEMU for a plan and loads the shadow; ends paused. */
  load(plan: RestorePlan): Promise<MemberRestored>;
  /** @returns QEMU's own time stamp of RESUME, microseconds since 1970 */
  resume(member: string): Promise<number>;
}
