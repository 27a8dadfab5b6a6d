/**
 * Plans what goes wrong while epochs are brought to disk. The plan is drawn from the seed before
 * anything happens, so that a story can be told again with some of it left out.
 */
import { PERSISTING_STATE_NAMES } from '../../../proxy/coordinator/durable/persisting-state.ts';
import type { Random } from '../random.ts';

export const PERSIST_FAULT_KINDS = [
  /** Every step at the disk takes a hundred times as long. */
  'slow-disk',
  /** No step ends before the disk answers again; a killed process waits, too. */
  'hung-disk',
  'full-disk',
  /** The process that brings shadows to disk is killed. */
  'kill-job',
  /** The process that keeps the list is killed. */
  'kill-list',
  'kill-daemon',
  'power-cut',
  /** Listing an epoch in memory fails. */
  'publish-fails',
  /** The newest epoch's shadows in memory cannot be read any more. */
  'damage-memory',
  /** An epoch is folded while it may be read. */
  'fold',
] as const;

export type PersistFaultKind = (typeof PERSIST_FAULT_KINDS)[number];

/** Parts that can be broken on purpose, to see that it is found. */
export const PERSIST_BROKEN = [
  /** Epochs are retired from memory though they are being brought to disk. */
  'retire-unheld',
  /** An epoch is listed on disk before its shadows are there. */
  'list-first',
  /** A round does not wait for its epoch to be on disk. */
  'commit-unlisted',
  /** Callers wait for a disk that hangs. */
  'wait-for-hung',
  /** What failed is not tried again. */
  'no-retry',
  /** A removed epoch is not taken back from disk. */
  'keep-removed',
] as const;
export type PersistBroken = (typeof PERSIST_BROKEN)[number];

export interface PersistFault {
  readonly kind: PersistFaultKind;
  readonly atMs: number;
  /** Instead of at once: when the machine next enters this state. */
  readonly inState: number | undefined;
  /** How long it lasts, milliseconds, where it lasts. */
  readonly ms: number;
}

export interface PersistPlan {
  /** Epochs are on disk before they are committed; else afterwards. */
  readonly beforeCommit: boolean;
  readonly keep: number;
  readonly faults: readonly PersistFault[];
}

/** Deaths come more often than the rest: each is to come at each step. */
const DEATHS = ['kill-job', 'kill-list', 'kill-list', 'kill-daemon'] as const;
const MOST_FAULTS = 6;
const MOST_KEPT = 3;

/** @param untilMs faults happen before that */
export function drawPersistPlan(random: Random, untilMs: number): PersistPlan {
  const faults: PersistFault[] = [];
  for (let left = random.integer(0, MOST_FAULTS); left > 0; left--) {
    faults.push({
      kind: random.choice(...PERSIST_FAULT_KINDS, ...DEATHS),
      atMs: random.uniform(0, untilMs),
      inState:
        random.next() < 0.5 ? random.integer(2, PERSISTING_STATE_NAMES.length - 2) : undefined,
      ms: random.logUniform(10, 60_000),
    });
  }
  return {
    beforeCommit: random.next() < 0.5,
    keep: random.integer(1, MOST_KEPT),
    faults: faults.sort((a, b) => a.atMs - b.atMs),
  };
}
