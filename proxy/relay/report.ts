/** Reports of a relay: progress of a migration, and its outcome. PURE. */
import type { Failure } from '../failure/failure.ts';
import type { FlowSpan } from '../protocol/member.ts';
import type { ChannelKind } from './classify.ts';

/** Kind of a migration, by its connections: `parallel` is multifd. */
export type Transport = 'single' | 'parallel' | 'encrypted' | 'unknown';

/**
 * Outcome of a migration. `completed`: the destination has confirmed it on the return path.
 * `closed`: all connections ended in order, but the verdict could not be read (TLS, no return
 * path).
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
  /** Name of the route. */
  readonly name: string;
  readonly listen: string;
  readonly to: string;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly transport: Transport;
  readonly outcome: Outcome;
  readonly failure?: Failure;
  /** Size of the VM's memory; undefined where the stream cannot be read. */
  readonly ramBytes?: number;
  readonly machineType?: string;
  readonly streamBytes: number;
  readonly returnBytes: number;
  readonly bytesPerSecond: number;
  readonly channels: readonly ChannelReport[];
  /** Time it waited for others, milliseconds; and the spans. */
  readonly heldMs: number;
  readonly flow: readonly FlowSpan[];
  /** Outcome of its shadow, if one was wanted. */
  readonly shadow?: ShadowReport;
  /** Further notes for the operator. */
  readonly notes: readonly string[];
}

/** State of a migration's turn. `released`: it can no longer be held. */
export type FlowState = 'flows' | 'held' | 'released';

export interface MigrationProgress {
  readonly migration: string;
  readonly name: string;
  readonly state: FlowState;
  readonly transport: Transport;
  readonly streamBytes: number;
  readonly ramBytes: number | undefined;
  /** Share of the memory that was sent at least once, 0 to 1. */
  readonly share: number | undefined;
  readonly bytesPerSecond: number;
  /**
   * Time until all memory was sent once, milliseconds. The rest depends on what the guest rewrites.
   */
  readonly etaMs: number | undefined;
}

/** Position of a migration at one instant. */
export interface Position {
  readonly streamBytes: number;
  readonly ramBytes: number | undefined;
  /** Share of all pages sent once; undefined where pages cannot be counted. */
  readonly seenShare: number | undefined;
}

/**
 * Returns the share of memory sent. Zero pages take next to no bytes: where pages cannot be
 * counted, the share is a lower bound, and the time left an upper one.
 */
export function shareOf({ streamBytes, ramBytes, seenShare }: Position): number | undefined {
  if (seenShare !== undefined) return seenShare;
  return ramBytes === undefined ? undefined : Math.min(1, streamBytes / ramBytes);
}

/** Returns the time left, milliseconds. @param elapsedMs time in which the share was reached */
export function etaOf(share: number | undefined, elapsedMs: number): number | undefined {
  if (share === undefined || share === 0) return undefined;
  return share >= 1 ? 0 : (elapsedMs * (1 - share)) / share;
}
