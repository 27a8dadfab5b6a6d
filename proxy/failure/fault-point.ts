/**
 * Named steps at which a process can be made to freeze, so that a test can kill it, or another
 * process, exactly there. $UMBRA_STOP_AT is a file that lists steps, one a line; without it nothing
 * happens.
 *
 *     member/MEMBER/STATE   a proxy, on entering a state of session.ts
 *     round/STATE           the coordinator, on entering a state of round.ts
 *     persist/STEP          a durable process or the daemon, at a step of shadow/durable/steps.ts
 *     store/STEP            the daemon, at a step of shadow/steps.ts
 *     relay/STEP            the relay, at one of RELAY_STEPS
 *     restore/STEP          the daemon, at one of RESTORE_STEPS
 *     restore/MEMBER/STEP   a proxy, at one of LOAD_STEPS
 *     tracking/MEMBER/STEP  a proxy, at one of TRACKING_STEPS
 *
 * The process stops itself (SIGSTOP) after it has entered the step and before it acts.
 */
import { readFileSync } from 'node:fs';

/**
 * Steps of a relayed migration: it has connected, its kind is known, all its memory has passed, the
 * destination has confirmed it.
 */
export const RELAY_STEPS = ['connected', 'told', 'ram-ended', 'acknowledged'] as const;

/**
 * Steps of a restore: memory was fetched from disk and is not listed yet, the plan is made, running
 * VMs were killed, the restore is noted, the first QEMU was started, all are loaded, all run.
 */
export const RESTORE_STEPS = [
  'fetched',
  'planned',
  'killed',
  'begun',
  'started',
  'loaded',
  'resumed',
] as const;

/** Steps of one member's load: QEMU listens and was sent nothing; its `cont` was not sent yet. */
export const LOAD_STEPS = ['loading', 'resuming'] as const;

/**
 * Steps of a tracked capture. It begins: QEMU's thread is about to make our call, QEMU has its
 * userfaultfd, its memory is watched. Later: the device state is asked for, marks were cleared and
 * are not noted yet, the residue is copied.
 */
export const TRACKING_STEPS = [
  'injecting',
  'injected',
  'watched',
  'state',
  'scanned',
  'residue',
] as const;

const file = process.env.UMBRA_STOP_AT;
const passed = new Set<string>();

/** Freezes this process if a test has listed the step; once a step. */
export function faultPoint(name: string): void {
  if (file === undefined || passed.has(name) || !isListed(file, name)) return;
  passed.add(name);
  process.kill(process.pid, 'SIGSTOP');
}

function isListed(path: string, name: string): boolean {
  try {
    return readFileSync(path, 'utf8').split('\n').includes(name);
  } catch {
    return false;
  }
}
