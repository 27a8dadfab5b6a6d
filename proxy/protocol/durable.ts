/** What the agent and its processes of the durable tier say to each other, over IPC. */

import type { PersistProgress, PersistResult } from '../../shadow/durable/index.ts';
import type { EpochManifest } from '../../shadow/index.ts';
import type { Failure } from '../failure/failure.ts';
import type { DurableList, DurableRequest } from './agent.ts';

/** What a job needs of the configuration. */
export interface DurableLocation {
  readonly cluster: string;
  /** On disk. */
  readonly directory: string;
  readonly shadowsDirectory: string;
}

export type DurableJob = DurableLocation & { readonly epoch: EpochManifest } & (
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
  | { readonly kind: 'progress'; readonly progress: PersistProgress }
  | { readonly kind: 'done'; readonly result: DurableResults[DurableJob['type']] }
  | { readonly kind: 'failed'; readonly failure: Failure };

/** One question at a time. */
export interface ToListKeeper {
  readonly place: DurableLocation;
  readonly request: DurableRequest;
}

export type FromListKeeper =
  | { readonly kind: 'view'; readonly view: DurableList }
  | { readonly kind: 'failed'; readonly failure: Failure };
