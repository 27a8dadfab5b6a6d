/**
 * Puts a whole process behind all others: its work can wait, the VMs cannot.
 *
 * Linux weighs three things: nice(2), of each thread; the I/O class "idle", which schedulers that
 * know classes honour; and the nice value of the session (sched_autogroup, sched(7)), without which
 * a session of its own would share the cores with a VM half and half, however nice its threads are.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setIdleIo } from './libc.ts';

const NICE_LOWEST = 19;
const AUTOGROUP = '/proc/self/autogroup';

/**
 * Gives this process the lowest priority. Threads made later inherit it. Where the system does not
 * allow a step, that step is left out: nothing depends on it.
 */
export function takeLowestPriority(): void {
  for (const thread of readdirSync('/proc/self/task').map(Number)) {
    try {
      setPriority(thread, NICE_LOWEST);
    } catch {
      continue; // a thread that has ended
    }
    setIdleIo(thread);
  }
  try {
    if (existsSync(AUTOGROUP)) writeFileSync(AUTOGROUP, String(NICE_LOWEST));
  } catch {
    // the kernel lets an unprivileged process change it only once in a while
  }
}
