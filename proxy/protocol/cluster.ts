/** A cluster as it is configured: checked, paths absolute, quantities in bytes and milliseconds. */
import * as z from 'zod';
import type { Interval, RetentionPolicy } from '../../policies/index.ts';
import type { ClockChoice, RestoreChoice } from './restore-mode.ts';
import type { RoundConfig } from './round-settings.ts';

/** A VM that libvirt runs: the URI of that libvirt, and the VM's name there. */
export const libvirtDomainSchema = z.object({ uri: z.string(), domain: z.string() });
export type LibvirtDomain = Readonly<z.infer<typeof libvirtDomainSchema>>;

export interface MemberConfig {
  readonly name: string;
  /** The command line of its QEMU; undefined: Umbra does not start it. */
  readonly command: readonly string[] | undefined;
  /** The QMP socket of its QEMU. */
  readonly qmp: string;
  readonly workingDirectory: string;
  /** The member's own folder: sockets, logs, journal. */
  readonly directory: string;
  readonly libvirt?: LibvirtDomain;
}

export interface ScheduleConfig {
  readonly interval: Interval;
  /** The share of its speed that the job loses while memory streams, 0 to 1. */
  readonly liveSlowdown: number;
}

export interface StoreConfig {
  readonly headroomBytes: number;
  /** Undefined: what the host has, less the headroom. */
  readonly budgetBytes: number | undefined;
  readonly recycle: boolean;
  /** True: only pages that differ from an earlier epoch are stored. */
  readonly delta: boolean;
  /** Deltas with more than this share of their base are folded into a new base. */
  readonly foldAt: number;
  /** The longest that a round which does not fit waits; 0: it is refused at once. */
  readonly queueLimitMs: number;
}

export interface PersistConfig {
  /** This cluster's folder on disk. */
  readonly directory: string;
  readonly mode: 'background' | 'before-commit';
  /** Content a second, bytes; undefined: no limit. */
  readonly rate: number | undefined;
  /** Members at once. */
  readonly parallel: number;
  /** Epochs kept on disk. */
  readonly keep: number;
  /** The longest that a round waits for the disk, with before-commit. */
  readonly timeLimitMs: number;
}

export interface ClusterConfig {
  readonly cluster: string;
  /** The cluster's folder, 0700: all its files are below. */
  readonly directory: string;
  readonly shadowsDirectory: string;
  readonly catalogueDirectory: string;
  readonly members: readonly MemberConfig[];
  readonly round: RoundConfig;
  readonly store: StoreConfig;
  /** Undefined: checkpoints are taken only when asked for. */
  readonly schedule: ScheduleConfig | undefined;
  readonly epochs: RetentionPolicy;
  /** Undefined: epochs are in memory only. */
  readonly persist: PersistConfig | undefined;
  readonly restore: { readonly mode: RestoreChoice; readonly clock: ClockChoice };
  /** Sockets of the guests' network cards, for Umbra's own switch. */
  readonly switchSockets: readonly string[];
}
