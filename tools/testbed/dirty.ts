/**
 * Shell commands for a process in the guest that rewrites memory all the time and can verify that
 * every page holds what was written last (tools/guest/src/dirty.c). Each command ends when its step
 * is done, however slow the guest is; exit status 0 means success.
 *
 *     dirtyMemory ──"ready"──▶ verifyMemory ──"verified"──▶ … ──▶ endMemory ──"verified"──▶ ended
 */

export interface DirtyOptions {
  readonly sizeMiB: number;
  /** MiB a second; undefined: as fast as the guest can. */
  readonly rateMiB?: number;
  /** Default: sequential, one page after the other. */
  readonly pattern?: 'sequential' | 'random' | 'burst';
  /** Log file in the guest; a second such process needs another one. */
  readonly log?: string;
}

const LOG = '/run/dirty.log';
const POLL_SECONDS = 0.05;

/** Returns the command that starts writing; it ends when every page has been written once. */
export function dirtyMemory(options: DirtyOptions): string {
  const { sizeMiB, rateMiB = 0, pattern = 'sequential', log = LOG } = options;
  const command = `dirty --size-mib ${sizeMiB} --rate-mib ${rateMiB} --pattern ${pattern}`;
  const ready = `grep -q ready ${log}`;
  const waiting = whileAlive(log, `! ${ready}`);
  return `${command} >${log} 2>&1 & echo $! >${log}.pid; ${waiting}; ${ready}`;
}

/**
 * Returns the command that has the process verify its memory and continue. Its output is the last
 * line of the log: `verified`, or `CORRUPT`, after which the process has ended.
 */
export function verifyMemory(log = LOG): string {
  const count = `$(grep -c verified ${log})`;
  const waiting = whileAlive(log, `[ ${count} = $before ]`);
  const kill = `kill -USR1 ${pidOf(log)} || exit`;
  return `before=${count}; ${kill}; ${waiting}; tail -1 ${log}; [ ${count} != $before ]`;
}

/** Returns the command that has the process verify its memory and end; outputs its last line. */
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
