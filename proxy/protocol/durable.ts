/** What the agent and its processes of the durable tier say to each other, over IPC. */

import type { PersistResult, Progress } from '../../shadow/durable/index.ts';
import type { EpochManifest } from '../../shadow/index.ts';
import type { Failure } from '../failure/failure.ts';
import type { DiskRequest, DiskView } from './agent.ts';

/** What a job needs of the configuration. */
export interface DurablePlace {
  readonly cluster: string;
  /** On disk. */
  readonly directory: string;
  readonly shadowsDirectory: string;
}

export type DurableJob = DurablePlace & { readonly epoch: EpochManifest } & (
    | {
        readonly type: 'persist';
        /** Content a second, bytes. */
        readonly rate: number | undefined;
        readonly parallel: number;
        /** A round waits for it: it does not go behind everybody else. */
        readonly isAwaited: boolean;
      }
    | {
        readonly type: 'fetch';
        readonly staging: string;
        readonly trust: 'changed' | 'all';
        readonly headroomBytes: number;
        readonly budgetBytes: number | undefined;
      }
    | { readonly type: 'verify' }
  );

export interface DurableResults {
  readonly persist: PersistResult;
  /** Bytes fetched. */
  readonly fetch: number;
  readonly verify: undefined;
}

export type FromDurable =
  | { readonly kind: 'progress'; readonly progress: Progress }
  | { readonly kind: 'done'; readonly result: DurableResults[DurableJob['type']] }
  | { readonly kind: 'failed'; readonly failure: Failure };

/** One question at a time. */
export interface ToKeeper {
  readonly place: DurablePlace;
  readonly request: DiskRequest;
}

export type FromKeeper =
  | { readonly kind: 'view'; readonly view: DiskView }
  | { readonly kind: 'failed'; readonly failure: Failure };
