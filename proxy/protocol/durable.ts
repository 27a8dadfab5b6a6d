/**
 * The contracts of an agent and its processes of the durable tier, over channels (channel.ts).
 *
 *     agent ── persist, fetch or verify ──▶ job        one request for each process
 *     agent ◀── progress ────────────────── job
 *     agent ── ask ──▶ list keeper                     one at a time
 */
import * as z from 'zod';
import { epochManifestSchema } from '../../shadow/index.ts';
import { failureSchema } from './failure.ts';

const text = z.string();
const figure = z.number();

/** The part of the configuration that a job needs; paths absolute. */
const durableLocationSchema = z.object({
  cluster: text,
  /** The cluster's folder on disk. */
  directory: text,
  shadowsDirectory: text,
});
export type DurableLocation = Readonly<z.infer<typeof durableLocationSchema>>;

const jobSchema = durableLocationSchema.extend({ epoch: epochManifestSchema });

const persistSchema = jobSchema.extend({
  /** Content a second, bytes; undefined: no limit. */
  rate: z.union([figure, z.undefined()]),
  /** Members at once. */
  parallel: figure,
  /** True: a round waits for it, and it does not run at the lowest priority. */
  isAwaited: z.boolean(),
});

const fetchSchema = jobSchema.extend({
  /** The name of the round folder that it fills. */
  staging: text,
  /** How closely shadows that are in memory already are checked. */
  trust: z.enum(['changed', 'all']),
  headroomBytes: figure,
  budgetBytes: z.union([figure, z.undefined()]),
});

const progressSchema = z.object({
  /** Content, bytes; what was on disk already counts as done. */
  doneBytes: figure,
  totalBytes: figure,
});

/** Calls that the process of a job takes: one of them, once. */
export const JOB_CALLS = {
  persist: {
    takes: persistSchema,
    gives: z.object({
      contentBytes: figure,
      /** Bytes that it takes on disk. */
      storedBytes: figure,
    }),
  },
  /** Gives the bytes fetched. */
  fetch: { takes: fetchSchema, gives: figure },
  verify: { takes: jobSchema, gives: z.undefined() },
} as const;

type Jobs = typeof JOB_CALLS;
export type JobType = keyof Jobs;
export type DurableJob<T extends JobType = JobType> = Readonly<z.infer<Jobs[T]['takes']>>;
export type DurableResult<T extends JobType = JobType> = z.infer<Jobs[T]['gives']>;

/** Calls that an agent takes from the process of a job. */
export const JOB_AGENT_CALLS = { progress: { takes: progressSchema } } as const;

/** Asks for the list of epochs on disk, or changes it; the answer is the list as it is then. */
const durableRequestSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('look') }),
  /** Publishes an epoch whose shadows are on disk. */
  z.object({ type: z.literal('publish'), epoch: epochManifestSchema }),
  z.object({ type: z.literal('retire'), epochs: z.array(figure).readonly() }),
  z.object({ type: z.literal('pin'), epoch: figure, pinned: z.boolean() }),
  /** Removes what no epoch needs; nothing is persisted meanwhile. */
  z.object({ type: z.literal('collect') }),
]);
export type DurableRequest = Readonly<z.infer<typeof durableRequestSchema>>;

const durableListSchema = z.object({
  /** Oldest first. */
  epochs: z.array(epochManifestSchema).readonly(),
  damaged: z.array(z.object({ epoch: figure, failure: failureSchema })).readonly(),
  /** Epochs that an operator wants kept. */
  pinned: z.array(figure).readonly(),
  /** The number after the highest that was ever there. */
  nextEpoch: figure,
  /** The reason why epochs there may not outlive the host's memory. */
  doubt: z.union([text, z.undefined()]),
});
export type DurableList = Readonly<z.infer<typeof durableListSchema>>;

/** Calls that the keeper of the list takes. */
export const LIST_CALLS = {
  ask: {
    takes: z.object({ location: durableLocationSchema, request: durableRequestSchema }),
    gives: durableListSchema,
  },
} as const;
