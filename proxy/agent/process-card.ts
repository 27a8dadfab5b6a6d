/**
 * Processes that outlive us, known by a card on tmpfs. Pid and start time together name a process
 * once and for all: a pid that was given to another process is never mistaken for ours.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { UmbraError } from '../failure.ts';

const EXIT_POLL_MS = 10;
const EXIT_DEADLINE_MS = 10_000;

export const processSchema = z.object({
  pid: z.number().int().positive(),
  /** Field 22 of /proc/PID/stat, clock ticks since boot. */
  startTime: z.string(),
});

export type KnownProcess = z.infer<typeof processSchema>;

export function recordProcess(card: string, pid: number): void {
  const known = { pid, startTime: startTimeOf(pid) ?? '' };
  writeFileSync(card, JSON.stringify(known), { mode: 0o600 });
}

/** @returns undefined if there is no card, or its process has ended */
export function recordedProcess(card: string): KnownProcess | undefined {
  try {
    const known = processSchema.parse(JSON.parse(readFileSync(card, 'utf8')));
    return isAlive(known) ? known : undefined;
  } catch {
    return undefined;
  }
}

export function isAlive({ pid, startTime }: KnownProcess): boolean {
  return startTimeOf(pid) === startTime;
}

/**
 * Ends a process and waits until it is gone. Does nothing to a process that is another.
 * @param politeMs how long it may take after SIGTERM before SIGKILL; 0 for SIGKILL at once
 * @throws UmbraError E_PROCESS_KILL
 */
export async function killProcess(known: KnownProcess, politeMs = 0): Promise<void> {
  const start = performance.now();
  let killed = false;
  if (isAlive(known) && politeMs > 0) signal(known.pid, 'SIGTERM');
  while (isAlive(known)) {
    const elapsed = performance.now() - start;
    if (!killed && elapsed >= politeMs) {
      signal(known.pid, 'SIGKILL');
      killed = true;
    }
    if (elapsed > politeMs + EXIT_DEADLINE_MS) {
      throw new UmbraError({
        code: 'E_PROCESS_KILL',
        message: `process ${known.pid} does not die`,
      });
    }
    await delay(EXIT_POLL_MS);
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // it ended by itself
  }
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
