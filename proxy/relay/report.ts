/** What a relay tells of a migration: while it goes on, and when it is over. PURE. */
import type { Failure } from '../failure/failure.ts';
import type { FlowSpan } from '../protocol/member.ts';
import type { ChannelKind } from './classify.ts';

/** By what its connections are: `parallel` is multifd. */
export type Transport = 'single' | 'parallel' | 'encrypted' | 'unknown';

/**
 * `completed`: the destination said so, on the return path. `closed`: all ended in order, but nobody
 * here could read whether it went well (TLS, no return path).
 */
export type Outcome = 'completed' | 'closed' | 'failed';

export interface ChannelReport {
  readonly kind: ChannelKind;
  /** Bytes from source to destination, and back. */
  readonly streamBytes: number;
  readonly returnBytes: number;
}

export type ShadowReport =
  | { readonly kept: true; readonly epoch: number; readonly storedBytes: number }
  | { readonly kept: false; readonly failure: Failure };

export interface MigrationReport {
  readonly migration: string;
  /** The route's name: whose migration it is. */
  readonly name: string;
  readonly listen: string;
  readonly to: string;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly transport: Transport;
  readonly outcome: Outcome;
  readonly failure?: Failure;
  /** Of the VM's memory; undefined where the stream cannot be read. */
  readonly ramBytes?: number;
  readonly machineType?: string;
  readonly streamBytes: number;
  readonly returnBytes: number;
  readonly bytesPerSecond: number;
  readonly channels: readonly ChannelReport[];
  /** For how long others went first, milliseconds; and when. */
  readonly heldMs: number;
  readonly flow: readonly FlowSpan[];
  /** What has become of its shadow, if one was wanted. */
  readonly shadow?: ShadowReport;
  /** What the operator should know besides. */
  readonly notes: readonly string[];
}

/** `let go`: it is past what can be held. */
export type FlowState = 'flows' | 'held' | 'released';

export interface MigrationProgress {
  readonly migration: string;
  readonly name: string;
  readonly state: FlowState;
  readonly transport: Transport;
  readonly streamBytes: number;
  readonly ramBytes: number | undefined;
  /** Of the memory, sent at least once: 0 to 1. */
  readonly share: number | undefined;
  readonly bytesPerSecond: number;
  /** Until all memory has been sent once; what comes then depends on how fast the guest rewrites it. */
  readonly etaMs: number | undefined;
}

/** What is known of a migration's way at an instant. */
export interface Position {
  readonly streamBytes: number;
  readonly ramBytes: number | undefined;
  /** Of all, sent once; undefined where pages cannot be told. */
  readonly seenShare: number | undefined;
}

/**
 * Pages of zeros take next to no bytes, so where pages cannot be told the share is the least, and the
 * time the most it can be.
 */
export function shareOf({ streamBytes, ramBytes, seenShare }: Position): number | undefined {
  if (seenShare !== undefined) return seenShare;
  return ramBytes === undefined ? undefined : Math.min(1, streamBytes / ramBytes);
}

/** @param elapsedMs in which the position was reached */
export function etaOf(share: number | undefined, elapsedMs: number): number | undefined {
  if (share === undefined || share === 0) return undefined;
  return share >= 1 ? 0 : (elapsedMs * (1 - share)) / share;
}
