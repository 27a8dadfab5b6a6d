/** A failure as the operator's API and `--json` carry it. PURE. */
import * as z from 'zod';
import type { Failure } from '../failure/failure.ts';

export const failureSchema = z
  .object({
    code: z.string().describe('Stable, such as E_EPOCH_UNKNOWN'),
    message: z.string(),
    member: z.string().exactOptional(),
    where: z.string().exactOptional().describe('What was being done, such as `open` or `drain`'),
    hint: z.string().exactOptional().describe('What to do next'),
    missingBytes: z.number().exactOptional().describe('Memory that would have prevented it'),
  })
  .meta({ id: 'Failure' }) satisfies z.ZodType<Failure>;

/** The answer to a request that failed. */
export const refusalSchema = z.object({ failure: failureSchema }).meta({ id: 'Refusal' });
