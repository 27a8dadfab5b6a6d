/** Times, limits and a member's seat, which all parts of the model share. */
import type { Lineage } from '../../../proxy/member/tracking/lineage.ts';
import type { Guest } from './guest.ts';

/** A VM may stand for so long. */
export const DEADLINE_MS = 1_000;
/** A coordinator or a proxy that says nothing for so long is given up. */
export const SILENCE_MS = 400;
/** A round that takes longer is aborted. */
export const LIMIT_MS = 5_000;
/** Epochs that are kept, and whole shadows of every member the budget has room for. */
export const KEEP = 2;
export const BUDGET_SHADOWS = 5;

/** Parts that can be broken on purpose, to see that it is found. */
export const BROKEN = [
  'barrier',
  'manifest-first',
  'deadman-off',
  'stale-index',
  'lost-end',
  'resumed-early',
  'nothing-owed',
  'cleared-unnoted',
] as const;
export type Broken = (typeof BROKEN)[number];

export type Capture = 'precopy' | 'background' | 'tracked';

/** Ledger of a tracked guest (member/tracking/ledger.ts). */
export interface ModelledLedger {
  /** Life of the guest that is tracked. */
  readonly life: number;
  readonly lineage: Lineage;
  /** Pages whose marks were cleared, and which no epoch has. */
  readonly owed: ReadonlySet<number>;
  /** A proxy clears marks, or has died while it did. */
  readonly clearing: boolean;
}

/** A journal of a round: it is told from that of another by being itself. */
export interface ModelledJournal {
  stopping: boolean;
}

/** A member, as far as it outlives its proxies. */
export interface Seat {
  readonly name: string;
  readonly guest: Guest;
  readonly capture: Capture;
  /** Ledger of what a tracked guest has written, which outlives the proxy. */
  ledger: ModelledLedger | undefined;
  journal: ModelledJournal | undefined;
  stopsSlowerMs: number;
  refusesAdmission: boolean;
  storeIsFull: boolean;
  cutsStream: boolean;
}
