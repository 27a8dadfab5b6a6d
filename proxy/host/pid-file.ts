/** Processes that outlive the one that started them, named by a pid file on tmpfs. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { UmbraError } from '../failure/failure.ts';
import { isAlive, type KnownProcess, processSchema, startTimeOf } from './known-process.ts';

export { isAlive, type KnownProcess, processSchema, startTimeOf };

const EXIT_POLL_MS = 10;
const EXIT_DEADLINE_MS = 10_000;

/** Writes a pid file. */
export function recordProcess(file: string, pid: number): void {
  const known = { pid, startTime: startTimeOf(pid) ?? '' };
  writeFileSync(file, JSON.stringify(known), { mode: 0o600 });
}

/** Reads a pid file; returns undefined if there is none, or its process has ended. */
export function recordedProcess(file: string): KnownProcess | undefined {
  try {
    const known = processSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
    return isAlive(known) ? known : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Ends a process and waits until it is gone. Another process that has the same pid is left alone.
 * @param politeMs time between SIGTERM and SIGKILL, milliseconds; 0 for SIGKILL at once
 * @throws UmbraError E_PROCESS_KILL: the process is still there after 10 s
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

/** Tells whether a thread of a process sleeps where no signal reaches it (state D, proc(5)). */
export function sleepsOnDisk(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).some((thread) => {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
      return stat.slice(stat.lastIndexOf(')') + 2).startsWith('D');
    });
  } catch {
    return false; // it has ended
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // it has ended by itself
  }
}
