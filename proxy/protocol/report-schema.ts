/** A round's report as it is read from a file: whatever is told, drawn or learned from is what it should be. */
import * as z from 'zod';

/** JSON knows neither undefined nor infinite numbers: what is null was one of them. */
const number = z
  .number()
  .nullish()
  .transform((value) => value ?? undefined);
const text = z
  .string()
  .nullish()
  .transform((value) => value ?? undefined);

const failureSchema = z.looseObject({ code: z.string(), message: z.string(), hint: text });

const spanSchema = z.looseObject({
  state: z.enum(['live', 'held', 'stopped', 'drained', 'saving']),
  fromMs: z.number(),
  toMs: z.number(),
});

const memberSchema = z.looseObject({
  member: z.string(),
  ...{ downtimeMs: number, stopSkewMs: number, predictedDowntimeMs: number, savingMs: number },
  ...{ silentMs: number, liveMs: number, heldMs: number, drainMs: number, sealMs: number },
  ...{ passes: number, liveBytes: number, repeatedPages: number, drainBytes: number },
  ...{ storedBytes: number, waitedShare: number, missedPages: number, compareMs: number },
  ...{ capture: text, captureReason: text, cut: text, stored: text },
  writableDisks: z.array(z.string()).optional(),
  timeline: z.array(spanSchema),
});

export const reportSchema = z.looseObject({
  kind: z.literal('round'),
  round: z.string(),
  outcome: z.enum(['committed', 'aborted']),
  startedAt: z.iso.datetime(),
  ...{ policy: z.string(), durationMs: z.number(), streamBytes: z.number() },
  ...{ liveBytes: z.number(), drainBytes: z.number(), storedBytes: z.number() },
  ...{ epoch: number, predictedDowntimeMs: number, rawPredictedDowntimeMs: number },
  ...{ clusterDowntimeMs: number, skewMs: number, predictionError: number },
  endReason: text,
  failure: failureSchema.nullish().transform((value) => value ?? undefined),
  members: z.array(memberSchema),
});
