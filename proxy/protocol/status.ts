/** The state of a cluster, as `umbra status` shows it. PURE. */
import * as z from 'zod';
import { epochInfoSchema } from './epoch.ts';
import { failureSchema } from './failure.ts';
import { restoreReportSchema, roundReportSchema } from './report.ts';

export const memberStatusSchema = z
  .object({
    member: z.string(),
    status: z.string().describe('QEMU’s run state, or `gone`'),
    running: z.boolean(),
    qemuVersion: z.string().describe('Empty if QEMU does not answer'),
    note: z
      .string()
      .optional()
      .describe('What an operator should know, such as a QEMU that was upgraded underneath'),
    pid: z.number().optional(),
    proxyPid: z.number().optional(),
    owned: z.boolean().describe('Umbra started the VM; false: it was attached'),
  })
  .meta({ id: 'MemberStatus' });
export type MemberStatus = Readonly<z.infer<typeof memberStatusSchema>>;

const persistReportSchema = z.object({
  epoch: z.number(),
  durationMs: z.number(),
  contentBytes: z.number().describe('Memory that was written, without holes'),
  storedBytes: z.number().describe('Space that it takes on disk'),
});
export type PersistReport = Readonly<z.infer<typeof persistReportSchema>>;

export const persistStatusSchema = z
  .object({
    directory: z.string(),
    mode: z.enum(['background', 'before-commit']),
    doubt: z.string().optional().describe('Why files there may not outlive the host’s memory'),
    persisting: z
      .object({ epoch: z.number(), share: z.number() })
      .optional()
      .describe('The epoch that is being written to disk, and the share that is done, 0 to 1'),
    failure: failureSchema
      .optional()
      .describe('Why the last attempt failed; absent when one has succeeded since'),
    retryAt: z.string().optional().describe('When it is tried again, ISO 8601'),
    last: persistReportSchema.optional(),
  })
  .meta({ id: 'PersistStatus' });
export type PersistStatus = Readonly<z.infer<typeof persistStatusSchema>>;

export const scheduleStatusSchema = z
  .object({
    nextAt: z.string().optional().describe('When the next checkpoint is due, ISO 8601'),
    reason: z.string(),
    failure: failureSchema.optional().describe('Why the last scheduled checkpoint was not taken'),
  })
  .meta({ id: 'ScheduleStatus' });
export type ScheduleStatus = Readonly<z.infer<typeof scheduleStatusSchema>>;

export const clusterStatusSchema = z
  .object({
    cluster: z.string(),
    busy: z.string().optional().describe('The job under way'),
    persist: persistStatusSchema.optional().describe('The durable tier; absent if there is none'),
    queued: failureSchema.optional().describe('Why a checkpoint waits'),
    members: z.array(memberStatusSchema).readonly(),
    epochs: z.array(epochInfoSchema).readonly(),
    lastRound: roundReportSchema.optional(),
    lastRestore: restoreReportSchema.optional(),
    schedule: scheduleStatusSchema.optional().describe('Absent if none is configured'),
    predictionErrorMedian: z
      .number()
      .optional()
      .describe('Median of |predicted − real| ÷ real over the downtime of the last rounds'),
  })
  .meta({ id: 'ClusterStatus' });
export type ClusterStatus = Readonly<z.infer<typeof clusterStatusSchema>>;
