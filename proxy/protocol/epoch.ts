/** Epochs as the operator's API lists them. PURE. */
import * as z from 'zod';
import type { EpochSpace } from '../../shadow/index.ts';
import { failureSchema } from './failure.ts';

export const epochInfoSchema = z
  .object({
    epoch: z.number(),
    createdAt: z.string().optional().describe('ISO 8601; absent if its manifest is damaged'),
    members: z.number().describe('How many members it has'),
    pinned: z.boolean(),
    inMemory: z.boolean(),
    onDisk: z.boolean(),
    persisting: z
      .number()
      .optional()
      .describe('Share of it that is on disk, 0 to 1, while it is being written there'),
    failure: failureSchema.optional().describe('Why it cannot be restored'),
  })
  .meta({ id: 'EpochInfo' });
export type EpochInfo = Readonly<z.infer<typeof epochInfoSchema>>;

const spaceSchema = z.object({
  ownBytes: z.number().describe('Memory that removing this epoch alone would free'),
  sharedBytes: z.number().describe('Memory that other epochs need, too'),
}) satisfies z.ZodType<EpochSpace>;

export const epochDetailSchema = epochInfoSchema
  .extend({
    ageMs: z.number().optional(),
    space: spaceSchema.optional().describe('Absent for an epoch that is not in memory'),
  })
  .meta({ id: 'EpochDetail' });
export type EpochDetail = Readonly<z.infer<typeof epochDetailSchema>>;
