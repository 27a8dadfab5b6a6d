/** Settings that were changed while a daemon or a relay runs. PURE. */
import * as z from 'zod';
import { failureSchema } from './failure.ts';

export const changedOptionSchema = z.object({
  option: z.string().describe('Its path in the file, as store.budget'),
  before: z.string().describe('As the file had it, or its default'),
  after: z.string(),
});
export type ChangedOption = Readonly<z.infer<typeof changedOptionSchema>>;

export const reloadedSchema = z.object({ applied: z.array(changedOptionSchema).readonly() });
export type Reloaded = Readonly<z.infer<typeof reloadedSchema>>;

/** The answer of a relay that was asked to read its file again. */
export const relayReloadSchema = z.union([reloadedSchema, z.object({ failure: failureSchema })]);
