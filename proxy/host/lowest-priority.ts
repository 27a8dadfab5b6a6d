/**
 * Puts the whole process behind everybody else: what it does can wait, the VMs cannot.
 *
 * Three things, for Linux weighs three: nice(2), of each thread; the I/O class "idle", which schedulers
 * that know classes honour; and the nice value of the session (sched_autogroup, sched(7)), without
 * which a session of its own would share the cores with a VM half and half, however nice.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { arch, setPriority } from 'node:os';
import koffi from 'koffi';

const NICE_LOWEST = 19;
const AUTOGROUP = '/proc/self/autogroup';
// <linux/ioprio.h>, and the number of ioprio_set(2), for which libc has no name.
const IOPRIO_WHO_PROCESS = 1;
const IOPRIO_CLASS_IDLE = 3 << 13;
const SYS_IOPRIO_SET: Readonly<Record<string, number>> = { x64: 251, arm64: 30 };

/** Threads made later inherit it. What the system does not allow is left: it is a courtesy. */
export function takeLowestPriority(): void {
  const libc = koffi.load('libc.so.6');
  const syscall = libc.func('long syscall(long number, long which, long who, long value)');
  const number = SYS_IOPRIO_SET[arch()];
  for (const thread of readdirSync('/proc/self/task').map(Number)) {
    try {
      setPriority(thread, NICE_LOWEST);
    } catch {
      continue; // a thread that has ended
    }
    if (number !== undefined) syscall(number, IOPRIO_WHO_PROCESS, thread, IOPRIO_CLASS_IDLE);
  }
  try {
    if (existsSync(AUTOGROUP)) writeFileSync(AUTOGROUP, String(NICE_LOWEST));
  } catch {
    // an unprivileged process may be told to come back later
  }
}
