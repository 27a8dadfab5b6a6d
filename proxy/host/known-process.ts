/**
 * A process that may end behind our back. Pid and start time together name it once and for all: a pid
 * that was given to another process is never mistaken for it.
 */
import { readFileSync } from 'node:fs';
import * as z from 'zod';

export const processSchema = z.object({
  pid: z.number().int().positive(),
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  startTime: z.string(),
});

export type KnownProcess = z.infer<typeof processSchema>;

export function isAlive({ pid, startTime }: KnownProcess): boolean {
  return startTimeOf(pid) === startTime;
}

/** undefined for a process that is gone, or dead and not yet reaped. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** The process this runs in. */
export function thisProcess(): KnownProcess {
  return { pid: process.pid, startTime: startTimeOf(process.pid) ?? '' };
}
