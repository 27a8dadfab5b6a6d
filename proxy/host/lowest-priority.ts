/**
 * Puts the whole process behind everybody else: what it does can wait, the VMs cannot.
 *
 * Three things, for Linux weighs three: nice(2), of each thread; the I/O class "idle", which schedulers
 * that know classes honour; and the nice value of the session (sched_autogroup, sched(7)), without
 * which a session of its own would share the cores with a VM half and half, however nice.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setIdleIo } from './libc.ts';

const NICE_LOWEST = 19;
const AUTOGROUP = '/proc/self/autogroup';

/** Threads made later inherit it. What the system does not allow is left: it is a courtesy. */
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
    // an unprivileged process may be told to come back later
  }
}
