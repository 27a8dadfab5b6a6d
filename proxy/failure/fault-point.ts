/**
 * Named places where a process can be made to freeze, so that tests can kill it, or another, exactly
 * there. $UMBRA_STOP_AT is a file that lists names, one a line; without it this does nothing.
 *
 *     member/MEMBER/STATE   a proxy, on entering a state of session.ts
 *     round/STATE           the coordinator, on entering a state of round.ts
 *     persist/STEP          the durable process or the daemon, at a step of shadow/durable/steps.ts
 *     store/STEP            the daemon, at a step of shadow/steps.ts
 *     relay/STEP            the relay, at one of RELAY_STEPS
 *     restore/STEP          the daemon, at one of RESTORE_STEPS
 *     restore/MEMBER/STEP   a proxy, at one of LOAD_STEPS
 *
 * The process stops itself (SIGSTOP) after the state is entered and before anything is done about it.
 */
import { readFileSync } from 'node:fs';

/** Of a migration that goes by: it has come, what it is is known, all its memory has, the target has it. */
export const RELAY_STEPS = ['connected', 'told', 'ram-ended', 'acknowledged'] as const;

/**
 * Of bringing an epoch back: its memory has come from disk and is not listed yet, it is known how, what
 * ran is dead, it is noted that one is under way, a QEMU has been started, all are loaded, all run.
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

/** Of one member: its QEMU listens and has been sent nothing, it has been told to go and has not yet. */
export const LOAD_STEPS = ['loading', 'resuming'] as const;

const file = process.env.UMBRA_STOP_AT;
const passed = new Set<string>();

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
