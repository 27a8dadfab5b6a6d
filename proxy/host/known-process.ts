/**
 * The name of a process that may end at any time: its pid and its start time. A pid that the kernel
 * has given to another process since is never mistaken for it.
 */
import { readFileSync } from 'node:fs';
import { type KnownProcess, processSchema } from '../protocol/known-process.ts';

export { type KnownProcess, processSchema };

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
