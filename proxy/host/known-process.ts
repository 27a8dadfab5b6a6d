/**
 * A process that may end behind our back. Pid and start time together name it once and for all: a pid
 * that was given to another process is never mistaken for it.
 */
import { readFileSync } from 'node:fs';
import { type KnownProcess, processSchema } from '../protocol/known-process.ts';

export { type KnownProcess, processSchema };

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
