import type {
  EndCondition,
  Interval,
  Multiplexing,
  RetentionPolicy,
} from '../../policies/index.ts';
import type { CaptureMode, CutMode, DiskMode, HugePageMode } from './capture-mode.ts';

/** A cluster as it is configured, resolved and checked: paths absolute, quantities in bytes and milliseconds. */

/** A VM that libvirt runs. */
export interface LibvirtDomain {
  readonly uri: string;
  readonly domain: string;
}

export interface MemberConfig {
  readonly name: string;
  readonly command: readonly string[] | undefined;
  readonly qmp: string;
  readonly workingDirectory: string;
  /** The member's own folder: sockets, logs, journal. */
  readonly directory: string;
  readonly libvirt?: LibvirtDomain;
}

export interface ScheduleConfig {
  readonly interval: Interval;
  readonly liveSlowdown: number;
}

export interface PersistConfig {
  /** This cluster's folder on disk. */
  readonly directory: string;
  readonly mode: 'background' | 'before-commit';
  /** Content a second, bytes; undefined: no limit. */
  readonly rate: number | undefined;
  readonly parallel: number;
  readonly keep: number;
  /** How long a round waits for the disk, for before-commit. */
  readonly timeLimitMs: number;
}

export interface ClusterConfig {
  readonly cluster: string;
  /** The cluster's folder, 0700: everything of it is below. */
  readonly directory: string;
  readonly shadowsDirectory: string;
  readonly catalogueDirectory: string;
  readonly members: readonly MemberConfig[];
  readonly round: {
    /** In the order they are tried. */
    readonly capture: readonly CaptureMode[];
    readonly cut: CutMode;
    readonly disks: DiskMode;
    readonly hugePages: HugePageMode;
    readonly compareEmulated: boolean;
    readonly stopDeadlineMs: number;
    readonly endWhen: readonly EndCondition[];
    readonly multiplexing: Multiplexing;
    readonly inFlightBytes: number;
  };
  readonly store: {
    readonly headroomBytes: number;
    readonly budgetBytes: number | undefined;
    readonly recycle: boolean;
    /** Store only what differs from an earlier epoch. */
    readonly delta: boolean;
    /** Deltas that hold more than this share of their base are folded into a new one. */
    readonly foldAt: number;
    /** How long a round that does not fit waits; 0: it is refused at once. */
    readonly queueLimitMs: number;
  };
  /** Checkpoints by themselves; undefined: only when asked for. */
  readonly schedule: ScheduleConfig | undefined;
  readonly epochs: RetentionPolicy;
  /** Epochs on disk as well; undefined: in memory only. */
  readonly persist: PersistConfig | undefined;
  readonly restore: { readonly mode: 'auto' | 'map' | 'stream' };
  /** Sockets of the guests' network cards, for Umbra's own switch. */
  readonly switchSockets: readonly string[];
}
