/**
 * The name of a process that may end at any time. PURE.
 *
 * Pid and start time together name it for good: a pid that was given to another process is never
 * mistaken for it.
 */
import * as z from 'zod';

export const processSchema = z.object({
  pid: z.number().int().positive(),
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  startTime: z.string(),
});
export type KnownProcess = Readonly<z.infer<typeof processSchema>>;
