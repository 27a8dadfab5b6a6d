/**
 * Lines of JSON that the operator's API answers long requests with. PURE.
 *
 *     {"kind": "queued" | "progress" | "restore-progress", …}    any number of them
 *     {"kind": "done", "report": {…}}  or  {"kind": "failed", "failure": {…}}    the last
 */
import * as z from 'zod';
import { failureSchema } from './failure.ts';
import { restoreReportSchema, roundReportSchema } from './report.ts';
import { memberSampleSchema } from './round-facts.ts';

export const roundProgressSchema = z
  .object({
    kind: z.literal('progress'),
    round: z.string(),
    state: z.string().describe('State of the round'),
    members: z
      .array(
        z.object({
          member: z.string(),
          phase: z.string(),
          sample: memberSampleSchema.optional(),
        }),
      )
      .readonly(),
  })
  .meta({ id: 'RoundProgress' });
export type RoundProgress = Readonly<z.infer<typeof roundProgressSchema>>;

/** A round that does not fit now, and waits for memory. */
export const queuedProgressSchema = z
  .object({ kind: z.literal('queued'), why: failureSchema })
  .meta({ id: 'QueuedProgress' });
export type QueuedProgress = Readonly<z.infer<typeof queuedProgressSchema>>;

export const restoreProgressSchema = z
  .object({
    kind: z.literal('restore-progress'),
    step: z.enum(['fetch', 'verify', 'plan', 'kill', 'load', 'loaded', 'resume', 'clock']),
    member: z.string().optional(),
  })
  .meta({ id: 'RestoreProgress' });
export type RestoreProgress = Readonly<z.infer<typeof restoreProgressSchema>>;

const failedSchema = z
  .object({ kind: z.literal('failed'), failure: failureSchema })
  .meta({ id: 'Failed' });

export const checkpointLineSchema = z.discriminatedUnion('kind', [
  queuedProgressSchema,
  roundProgressSchema,
  z.object({ kind: z.literal('done'), report: roundReportSchema }),
  failedSchema,
]);

export const restoreLineSchema = z.discriminatedUnion('kind', [
  restoreProgressSchema,
  z.object({ kind: z.literal('done'), report: restoreReportSchema }),
  failedSchema,
]);

/** The one line of an answer that lasts as long as the hold. */
export const heldLineSchema = z
  .object({
    kind: z.literal('held'),
    hold: z.string().regex(/^[0-9a-f]{1,64}$/),
    epoch: z.number().int().positive(),
  })
  .meta({ id: 'Held' });
