/**
 * The contract of a coordinator and an agent, which is in the same process. Most of it is plain
 * data; an AbortSignal, callbacks, a Map and a Promise in a result are not, and cannot leave the
 * process.
 */

import type { PersistProgress, PersistResult } from '../../shadow/durable/index.ts';
import type { EpochManifest } from '../../shadow/index.ts';
import type { Failure } from '../failure/failure.ts';
import type { ClusterConfig } from './cluster.ts';
import type { RestoredDisk } from './disk-layer.ts';
import type { DurableList, DurableRequest } from './durable.ts';

export type { DurableList, DurableRequest };

import type {
  ClockResult,
  DomainPlan,
  MemberSample,
  RoundFacts,
  SessionMilestone,
} from './member.ts';
import type { MemberProven, MemberRestored } from './report.ts';
import type { QemuChoice, RestoreChoice, RestoreMode } from './restore-mode.ts';
import type { RoundSettings } from './round-settings.ts';
import type { MemberStatus } from './status.ts';

export type { MemberProven, MemberRestored, MemberStatus, RoundSettings };

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

/** A report of a member's session, or `gone`: its proxy has ended. */
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
  /** The reason why it is not `map`, when the caller left the choice open. */
  readonly reason: string | undefined;
  readonly commandLine: readonly string[];
  /** The command line of a second try, by stream, if one by map does not load. */
  readonly byStream: readonly string[] | undefined;
  /** What an operator should know, such as another QEMU than the VM ran on. */
  readonly note: string | undefined;
  /** The command line to record: the one the VM was first started with, not the restored one. */
  readonly recordedCommandLine: readonly string[];
  readonly workingDirectory: string;
  readonly shadowDirectory: string;
  /** A plan for libvirt, if it starts the VM; then the command line is not used. */
  readonly domain?: DomainPlan;
  /** Layers for its disks: the command line names them, and they are not made yet. */
  readonly disks: readonly RestoredDisk[];
  /** The folder whose image of main RAM the VM will map, if it does. */
  readonly mappedDirectory: string | undefined;
}

/** Choices of an operator that decide how members are brought back. */
export interface RestoreChoices {
  readonly mode: RestoreChoice;
  readonly qemu: QemuChoice;
}

/** Another cluster, whose epoch is restored into the members of this one. */
export interface CloneOrigin {
  readonly source: ClusterConfig;
  /** True: network cards that cannot have a network of their own are unplugged. */
  readonly disconnect: boolean;
}

/** An epoch that a relay kept, of one VM. */
export interface RelayedOrigin {
  /** Folder of the relay. */
  readonly store: string;
  /** Name of the VM there. */
  readonly vm: string;
  /** XML of the domain; undefined: what libvirt has of it. */
  readonly xml: string | undefined;
}

/** The part of an agent that a restore uses. */
export type RestoringAgent = Pick<
  Agent,
  | 'verify'
  | 'planRestore'
  | 'alivePids'
  | 'rehearse'
  | 'killVm'
  | 'beginRestore'
  | 'endRestore'
  | 'load'
  | 'resume'
  | 'catchUpClock'
>;

/** A fold that was admitted, and is under way. */
export interface FoldUnderWay {
  /**
   * The members of the epoch with their new shadows. Rejects with the errors of `beginFold`; the
   * staged shadows are removed then.
   */
  readonly members: Promise<EpochManifest['members']>;
}

export interface Agent {
  readonly members: readonly string[];
  /** Takes the place of an earlier listener. */
  onNotice(listener: (notice: AgentNotice) => void): void;
  status(): Promise<MemberStatus[]>;
  /**
   * Checks every member, the memory budget and the host's room; changes nothing.
   * @throws UmbraError E_BUDGET, E_STORE_NO_ROOM: it may fit later; others: why it cannot be
   */
  admit(): Promise<Admission>;
  /**
   * Makes the folder that a round's shadows are staged in. It is kept until all members have left
   * the round, and `endRound` was called.
   */
  beginRound(round: string): Promise<void>;
  /**
   * Says that the shadows staged in that folder, by a round or a fold, are published or given up.
   */
  endRound(round: string): void;
  /** Begins a round for a member. */
  prepare(round: string, member: string, settings: RoundSettings): void;
  /** Sends a member the next command of a round; notices report what comes of it. */
  command(round: string, member: string, command: AgentCommand): void;
  /**
   * Gives members in a round a sign of the coordinator's life. A proxy that has not answered an
   * earlier one for longer than `silenceMs` is killed.
   */
  alive(silenceMs: number): void;
  /**
   * Removes shadows that no epoch needs. Their memory is kept for the next round, as configured, or
   * given back to the host.
   */
  collect(how: 'recycle' | 'free'): Promise<readonly string[]>;
  /**
   * Frees the memory that VMs have filled holes of their mapped images with; no round is under way.
   * Images that are being read are left for the next call.
   */
  reclaimHoles(): Promise<void>;
  /**
   * Begins to merge layers over the members' disks that no epoch names, and removes those not in
   * use. Layers of VMs that do not run stay: their use is not known.
   * @param epochs all epochs there are
   */
  tidyDisks(epochs: readonly EpochManifest[]): Promise<void>;
  /** Returns the bytes of an epoch's deltas ÷ those of their bases; 0 without deltas. */
  deltaShare(epoch: EpochManifest): Promise<number>;
  /**
   * Begins to write an epoch's shadows anew, as full ones, into the folder of `round`. No epoch
   * names them yet. No round is under way when it begins; later ones may run beside it.
   * @returns when it is admitted
   * @throws UmbraError E_BUDGET, E_STORE_NO_ROOM, E_EPOCH_CORRUPT
   */
  beginFold(epoch: EpochManifest, round: string, signal: AbortSignal): Promise<FoldUnderWay>;
  /** Checks the shadows of an epoch in memory: those changed since, or all. @throws UmbraError */
  verify(epoch: EpochManifest, mode: 'changed' | 'all'): Promise<void>;
  /**
   * Writes its members' shadows of an epoch to disk; one epoch at a time.
   * @throws UmbraError E_PERSIST_ENDED after `endPersist`
   */
  persist(
    epoch: EpochManifest,
    onProgress: (progress: PersistProgress) => void,
  ): Promise<PersistResult>;
  /** Ends `persist` at whatever step. */
  endPersist(): void;
  /** Asks for, or changes, the list of epochs on disk; one request at a time. @throws UmbraError */
  durable(request: DurableRequest): Promise<DurableList>;
  /**
   * Returns for how long a process has waited for that disk; undefined while a working one may
   * take.
   */
  durableSilentMs(): number | undefined;
  /**
   * Reads an epoch from disk into the store, as far as it is not there. It is kept until
   * `endFetch`.
   * @param trust which shadows that are there already are checked
   * @returns bytes fetched
   */
  fetch(
    epoch: EpochManifest,
    trust: 'changed' | 'all',
    onProgress: (progress: PersistProgress) => void,
  ): Promise<number>;
  /** Says that the epoch which `fetch` has read is published, or given up. */
  endFetch(): void;
  /** Reads every byte of an epoch on disk. */
  verifyDurable(epoch: EpochManifest): Promise<void>;
  /**
   * Loads an epoch into throw-away QEMUs beside the running VMs, without disks and network.
   * @throws UmbraError E_PROOF_FAILED
   */
  prove(epoch: EpochManifest): Promise<MemberProven[]>;
  /** Plans a restore of its members. Changes nothing. @throws UmbraError */
  planRestore(epoch: EpochManifest, choices: RestoreChoices): Promise<RestorePlan[]>;
  /** Returns the process ids of VMs that are alive, by member. */
  alivePids(): Promise<ReadonlyMap<string, number>>;
  /**
   * Proves plans whose VM would come back on another QEMU than it ran on, as `prove` does.
   * @throws UmbraError E_PROOF_FAILED
   */
  rehearse(plans: readonly RestorePlan[]): Promise<void>;
  /**
   * Ends the tracking of a member's VM.
   * @returns false if it was not tracked
   * @throws UmbraError E_TRACKING_REFUSED
   */
  untrack(member: string): Promise<boolean>;
  /** Ends a member's VM, and forgets it. */
  killVm(member: string): Promise<void>;
  /** Begins a restore: until `endRestore`, VMs that `load` starts are ended if the agent dies. */
  beginRestore(): Promise<void>;
  /** Ends a restore. `undo` ends the VMs that it has started, and no others. */
  endRestore(how: 'done' | 'undo'): Promise<void>;
  /**
   * Returns an agent that restores epochs of another cluster into this one's members. It changes
   * nothing of the other cluster.
   */
  cloneOf(origin: CloneOrigin): RestoringAgent;
  /** Returns an agent that restores an epoch of a relay's store, and changes nothing there. */
  relayed(origin: RelayedOrigin): RestoringAgent;
  /** Starts QEMU by a plan and loads the shadow; the VM is paused then. */
  load(plan: RestorePlan): Promise<MemberRestored>;
  /** Resumes a loaded VM. Returns QEMU's own time stamp of RESUME, microseconds since 1970. */
  resume(member: string): Promise<number>;
  /**
   * Has the guest agent of a running VM set the guest's clock to the host's.
   * @throws UmbraError E_GUEST_AGENT, E_GUEST_CLOCK
   */
  catchUpClock(member: string): Promise<ClockResult>;
}
