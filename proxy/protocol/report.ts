/**
 * Reports: what a round or a restore cost, and why. PURE.
 *
 *     members' facts ─▶ coordinator/rounds/round-report.ts ─▶ RoundReport ─▶ --json, rounds/*.json
 *
 * A figure that is not known is absent.
 */
import * as z from 'zod';
import { failureSchema } from './failure.ts';
import { clockOutcomeSchema, restoreModeSchema } from './restore-mode.ts';
import { roundFactsSchema } from './round-facts.ts';

const number = z.number().optional();

/**
 * A stretch of a member's round, for a timeline:
 *
 *     live      the VM runs, its stream flows
 *     held      the VM runs, its stream waits
 *     stopped   the VM is stopped and sends what is left
 *     drained   the VM is stopped, all has arrived: it waits for the barrier, or to be resumed
 *     saving    the VM runs, its memory of the cut is being saved (background)
 */
export const spanSchema = z
  .object({
    state: z.enum(['live', 'held', 'stopped', 'drained', 'saving']),
    fromMs: z.number().describe('Milliseconds since the round began'),
    toMs: z.number(),
  })
  .meta({ id: 'Span' });
export type Span = Readonly<z.infer<typeof spanSchema>>;

export const memberReportSchema = roundFactsSchema
  .omit({ flow: true })
  .extend({
    member: z.string(),
    downtimeMs: number.describe('STOP to RESUME by QEMU’s clock, milliseconds'),
    stopSkewMs: number.describe('How much later than the first member it stopped, milliseconds'),
    predictedDowntimeMs: number.describe('Predicted when the live phase ended, milliseconds'),
    savingMs: number.describe(
      'Background capture: how long memory was saved while the VM ran, milliseconds',
    ),
    silentMs: number.describe(
      'Background capture: from the stop until held frames were sent, milliseconds',
    ),
    timeline: z.array(spanSchema).readonly(),
  })
  .meta({ id: 'MemberReport' });
export type MemberReport = Readonly<z.infer<typeof memberReportSchema>>;

export const memberProvenSchema = z
  .object({
    member: z.string(),
    mode: restoreModeSchema.optional().describe('How it was loaded; absent if it was not'),
    proofMs: number.describe('From the start of the throw-away QEMU to its end, milliseconds'),
    reason: z.string().optional().describe('Why the mode is not `map`'),
    notProven: z.string().optional().describe('Why it could not be tried'),
  })
  .meta({ id: 'MemberProven' });
export type MemberProven = Readonly<z.infer<typeof memberProvenSchema>>;

export const roundReportSchema = z
  .object({
    kind: z.literal('round'),
    round: z.string(),
    outcome: z.enum(['committed', 'aborted']),
    epoch: number,
    startedAt: z.iso.datetime(),
    durationMs: z.number(),
    endReason: z.string().optional().describe('What ended the live phase'),
    policy: z.string().describe('How streams shared the time, and what was to end the live phase'),
    predictedDowntimeMs: number.describe(
      'Downtime of the cluster, as predicted when the live phase ended, milliseconds',
    ),
    rawPredictedDowntimeMs: number.describe(
      'The same prediction before it was corrected by earlier rounds, milliseconds',
    ),
    predictionError: number.describe('|predicted − real| ÷ real'),
    clusterDowntimeMs: number.describe('First STOP to last RESUME, milliseconds'),
    skewMs: number.describe('First STOP to last STOP, milliseconds'),
    barrierHeld: z
      .boolean()
      .optional()
      .describe('No member resumed before all had stopped, by QEMU’s time stamps'),
    streamBytes: z.number(),
    liveBytes: z.number().describe('Bytes streamed while VMs ran'),
    drainBytes: z.number().describe('Bytes streamed after VMs had stopped'),
    repeatedPages: z.number(),
    storedBytes: z.number().describe('Memory that the shadows take'),
    members: z.array(memberReportSchema).readonly(),
    proof: z
      .array(memberProvenSchema)
      .readonly()
      .optional()
      .describe('Members whose epoch was loaded into a throw-away QEMU before it was committed'),
    failure: failureSchema.optional(),
  })
  .meta({ id: 'RoundReport' });
export type RoundReport = Readonly<z.infer<typeof roundReportSchema>>;

export const memberRestoredSchema = z
  .object({
    member: z.string(),
    mode: restoreModeSchema,
    loadMs: z.number().describe('From the start of QEMU to a loaded, paused VM, milliseconds'),
    bytes: z.number().describe('Bytes sent into QEMU'),
    reason: z.string().optional().describe('Why the mode is not `map`'),
    note: z.string().optional().describe('What changes for the VM, such as another QEMU'),
    clockLagMs: number.describe(
      'How far the guest’s wall clock fell behind: from the cut until the VM ran again, by the ' +
        'host’s clock, milliseconds; absent where the epoch does not say when it was cut',
    ),
    clock: clockOutcomeSchema
      .optional()
      .describe('Whether the guest’s clock was then set: `no-agent` if no guest agent answered'),
    clockOffMs: number.describe(
      'The guest’s clock less the host’s after it was caught up, as its agent says, milliseconds',
    ),
    clockWithinMs: number.describe('The most by which clockOffMs may be wrong, milliseconds'),
    clockFailure: failureSchema.optional().describe('Why the clock was not caught up'),
  })
  .meta({ id: 'MemberRestored' });
export type MemberRestored = Readonly<z.infer<typeof memberRestoredSchema>>;

export const restoreReportSchema = z
  .object({
    kind: z.literal('restore'),
    epoch: z.number(),
    durationMs: z
      .number()
      .describe('From the request until the last VM ran, by QEMU’s clock, milliseconds'),
    verifyMs: z.number().describe('Check that the epoch is whole, milliseconds'),
    fetchMs: number.describe('Copy from disk, milliseconds; absent if it was in memory'),
    loadMs: z.number().describe('First QEMU started to all loaded and paused, milliseconds'),
    skewMs: z.number().describe('First RESUME to last RESUME, milliseconds'),
    clockSpreadMs: number.describe(
      'Largest difference between clockOffMs of two members, milliseconds',
    ),
    killed: z.array(z.string()).readonly().describe('Members whose running VM was killed first'),
    members: z.array(memberRestoredSchema).readonly(),
  })
  .meta({ id: 'RestoreReport' });
export type RestoreReport = Readonly<z.infer<typeof restoreReportSchema>>;
