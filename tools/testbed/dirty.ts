/**
 * Guest memory that is written all the time, and that can be asked whether every page is the one written
 * last (tools/guest/src/dirty.c): the guest's commands for it. Each ends when what it asks for has
 * happened, however slow the guest is; its status says whether it did.
 *
 *     dirtyMemory ──"ready"──▶ verifyMemory ──"verified"──▶ … ──▶ endMemory ──"verified", it has ended
 */

export interface DirtyOptions {
  readonly sizeMiB: number;
  /** MiB a second; as fast as it can without. */
  readonly rateMiB?: number;
  /** By default, one page after the other. */
  readonly pattern?: 'sequential' | 'random' | 'burst';
  /** Where it writes in the guest; another one for a second such process. */
  readonly log?: string;
}

const LOG = '/run/dirty.log';
const POLL_SECONDS = 0.05;

/** Starts writing; ends when every page has been written once. */
export function dirtyMemory(options: DirtyOptions): string {
  const { sizeMiB, rateMiB = 0, pattern = 'sequential', log = LOG } = options;
  const command = `dirty --size-mib ${sizeMiB} --rate-mib ${rateMiB} --pattern ${pattern}`;
  const ready = `grep -q ready ${log}`;
  return `${command} >${log} 2>&1 & echo $! >${log}.pid; ${whileAlive(log, `! ${ready}`)}; ${ready}`;
}

/** It verifies, and goes on. The output is its last line: `verified` or, then it has ended, `CORRUPT`. */
export function verifyMemory(log = LOG): string {
  const count = `$(grep -c verified ${log})`;
  const waiting = whileAlive(log, `[ ${count} = $before ]`);
  const kill = `kill -USR1 ${pidOf(log)} || exit`;
  return `before=${count}; ${kill}; ${waiting}; tail -1 ${log}; [ ${count} != $before ]`;
}

/** It verifies, and ends. The output is its last line. */
export function endMemory(log = LOG): string {
  const kill = `kill -TERM ${pidOf(log)} || exit`;
  return `${kill}; ${whileAlive(log, 'true')}; tail -1 ${log}; tail -1 ${log} | grep -q verified`;
}

function whileAlive(log: string, condition: string): string {
  const alive = `kill -0 ${pidOf(log)} 2>/dev/null`;
  return `while ${alive} && ${condition}; do sleep ${POLL_SECONDS}; done`;
}

function pidOf(log: string): string {
  return `$(cat ${log}.pid)`;
}
