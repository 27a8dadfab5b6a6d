/**
 * What an agent and a member's proxy say to each other. Plain data: it crosses a process boundary.
 *
 *     agent ── Request {id, …} ──▶ proxy        proxy ── Reply {id, …} ──▶ agent
 *     agent ── Command {…}     ──▶ proxy        proxy ── Notice {…}    ──▶ agent
 *
 * Requests are answered; commands drive a round and are answered by notices as it moves on.
 */
import type { Failure } from '../failure/failure.ts';
import type { KnownProcess } from '../host/known-process.ts';
import type { LinkedMemory } from '../libvirt/memory-link.ts';
import type { FlowSpan, MemberSample, RoundFacts } from './round-facts.ts';
import type { CaptureMode, CutMode, DiskMode, HugePageMode } from './round-settings.ts';

export type { CaptureMode, CutMode, DiskMode, FlowSpan, MemberSample, RoundFacts };

/** Where a member lives. All paths absolute. */
export interface MemberLocation {
  readonly member: string;
  /** QMP socket of its VM. */
  readonly qmp: string;
  /** A folder of its own for sockets and the journal, mode 0700. */
  readonly directory: string;
  /** Where libvirt runs it; its QMP socket is then one of ours. */
  readonly libvirt?: { readonly uri: string; readonly domain: string };
}

export interface PrepareCommand {
  readonly type: 'prepare';
  readonly round: string;
  /** Folder the shadow is staged in; it does not exist yet. */
  readonly shadowDirectory: string;
  /** Images of earlier epochs that may be written again. */
  readonly spareDirectory: string;
  readonly staging: StagingShare;
  /** In the order they are tried; the first that can be trusted is taken. */
  readonly capture: readonly CaptureMode[];
  /** How the members of a background capture are cut together. */
  readonly cut: CutMode;
  readonly disks: DiskMode;
  readonly hugePages: HugePageMode;
  /** Of a VM without KVM: precopy is compared with its memory, for QEMU may miss a dirtied page. */
  readonly compareEmulated: boolean;
  /** Of the host's memory, when huge pages are made: what must stay free, and another round needs. */
  readonly keepFreeBytes: number;
  /** In the names of layers over its disks (disk-layer.ts). */
  readonly diskOwner: string;
  /** No more than this many times its RAM is streamed while the VM runs. */
  readonly memoryBound: number;
  /** The most the proxy keeps of the stream outside of the reserved shadow, bytes. */
  readonly inFlightBytes: number;
  /** How the VM was started: recorded with the shadow, used by restore. */
  readonly commandLine: readonly string[];
  readonly workingDirectory: string;
  /** The same, of a VM that libvirt has started. */
  readonly domainXml?: string | undefined;
  /** Its QEMU, where it is known. */
  readonly vm: KnownProcess | undefined;
  /** The longest a VM may stand stopped, milliseconds. */
  readonly stopDeadlineMs: number;
  /** The coordinator counts as lost after this long without a sign of it, milliseconds. */
  readonly silenceMs: number;
}

/** What a member's shadow may take of the host's memory, bytes. */
export interface StagingShare {
  /** The shadow to store differences from, by folder and digest of its shadow.json. */
  readonly base?: { readonly directory: string; readonly sha256: string } | undefined;
  /** Admitted for it: all of its RAM, or what is expected to differ. */
  readonly admittedBytes: number;
  /** How many may come to that. */
  readonly moreBytes: number;
  /** What must stay free on the host. */
  readonly headroomBytes: number;
}

export type RoundCommand =
  | PrepareCommand
  | {
      readonly type: 'open' | 'start' | 'stop' | 'barrier' | 'commit' | 'abort';
      readonly round: string;
    }
  /** The member's slot opens or closes: its stream flows, or is held while the VM runs on. */
  | { readonly type: 'flow' | 'hold'; readonly round: string }
  /** The end is near: no slots, no pacing any more. */
  | { readonly type: 'close-in'; readonly round: string }
  /** A sign of life; nothing else. */
  | { readonly type: 'alive' };

export type RestoreMode = 'map' | 'stream' | 'libvirt';

/** How libvirt is to start a domain again. */
export interface DomainPlan {
  readonly xml: string;
  /** Main RAM, if it can be mapped. */
  readonly memory: LinkedMemory | undefined;
  /** `map` was asked for, and nothing else will do. */
  readonly insists: boolean;
}

/** The longest that `load-domain` may take, milliseconds. */
export const DOMAIN_LOAD_LIMIT_MS = 600_000;

export type MemberRequest =
  /** Is there a QEMU, and what does it do? */
  | { readonly type: 'probe' }
  /** RAM blocks and readiness, before a round: nothing is changed. */
  | { readonly type: 'examine' }
  /** Feed a QEMU that was started with `-S -incoming unix:…` (incoming.ts). */
  | { readonly type: 'load'; readonly shadowDirectory: string; readonly mode: RestoreMode }
  /** Have libvirt start the VM. */
  | { readonly type: 'load-domain'; readonly shadowDirectory: string; readonly plan: DomainPlan }
  | { readonly type: 'resume' }
  /** Begin to merge layers of its disks, but for those that are needed as they read. */
  | {
      readonly type: 'merge-layers';
      readonly workingDirectory: string;
      readonly owner: string;
      readonly needed: readonly string[];
    }
  /** Whatever a dead round left: cancel its migration, make the VM run. */
  | { readonly type: 'rescue' };

export interface ProbeResult {
  /** QEMU's run state, or `gone`. */
  readonly status: string;
  readonly running: boolean;
  readonly qemuVersion: string;
}

export interface ExamineResult {
  /** Bytes a shadow of this VM must reserve. */
  readonly shadowBytes: number;
  /** Of each RAM block; their sum is the above. */
  readonly blockBytes: readonly number[];
  readonly qemuVersion: string;
}

export interface LoadResult {
  /** Sent into QEMU. */
  readonly bytes: number;
}

export interface MergeResult {
  /** Every file of every disk the VM has. */
  readonly files: readonly string[];
}

export interface DomainLoaded {
  /** Given to libvirt. */
  readonly bytes: number;
  readonly mode: 'map' | 'libvirt';
  /** Why it is not `map`, if it could have been. */
  readonly reason?: string;
}

export interface ResumeResult {
  /** QEMU's own time stamp of RESUME, microseconds since 1970. */
  readonly resumedAtUs: number;
}

export type MemberNotice =
  | {
      readonly type: 'report';
      readonly round: string;
      readonly report: SessionMilestone;
      readonly facts: RoundFacts;
      readonly failure?: Failure;
    }
  | { readonly type: 'sample'; readonly round: string; readonly sample: MemberSample };

export type ToProxy =
  | { readonly kind: 'place'; readonly place: MemberLocation }
  | { readonly kind: 'command'; readonly command: RoundCommand }
  | { readonly kind: 'request'; readonly id: number; readonly request: MemberRequest };

export type FromProxy =
  | { readonly kind: 'ready' }
  /** The answer to a sign of life. */
  | { readonly kind: 'alive' }
  | { readonly kind: 'notice'; readonly notice: MemberNotice }
  | { readonly kind: 'reply'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly failure: Failure };

export type SessionMilestone =
  | 'admitted'
  | 'live'
  | 'stopped'
  | 'drained'
  | 'resumed'
  | 'sealed'
  | 'failed'
  | 'aborted';
