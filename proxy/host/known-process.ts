/**
 * The name of a process that may end at any time: its pid and its start time. A pid that the kernel
 * has given to another process since is never mistaken for it.
 */
import { readFileSync } from 'node:fs';
import * as z from 'zod';

export const processSchema = z.object({
  pid: z.number().int().positive(),
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  startTime: z.string(),
});

/** A process by pid and start time. */
export type KnownProcess = z.infer<typeof processSchema>;

/** Tells whether a process has not ended. */
export function isAlive({ pid, startTime }: KnownProcess): boolean {
  return startTimeOf(pid) === startTime;
}

/** Returns a process's start time; undefined if it has ended, also if it is not reaped yet. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Returns the name of the process this runs in. */
export function thisProcess(): KnownProcess {
  return { pid: process.pid, startTime: startTimeOf(process.pid) ?? '' };
}
