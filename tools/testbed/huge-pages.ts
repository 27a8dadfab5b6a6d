/** The amount of a VM's memory that is in huge pages, read from /proc/PID/smaps. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 50;
const SETTLED_POLLS = 20;
const JOIN_LIMIT_MS = 600_000;

/**
 * Returns the bytes in huge pages of the one private mapping with a given size
 * (proc_pid_smaps(5)).
 * @throws Error if the process has no such mapping, or several
 */
function hugeBytes(pid: number, bytes: number): number {
  const smaps = readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  const alike = smaps.filter((text) => text.includes(`\nSize: ${kibibytes(bytes)} kB`));
  const found = /^AnonHugePages: +(\d+) kB$/m.exec(alike[0] ?? '')?.[1];
  if (alike.length !== 1 || found === undefined)
    throw new Error('no mapping of that size, or several');
  return Number(found) * 1024;
}

/**
 * Waits until at least `wanted` bytes are in huge pages.
 * @returns the bytes that are
 * @throws Error after ten minutes
 */
export async function untilHuge(pid: number, bytes: number, wanted: number): Promise<number> {
  for (const end = performance.now() + JOIN_LIMIT_MS; ; await delay(POLL_MS)) {
    const found = hugeBytes(pid, bytes);
    if (found >= wanted) return found;
    if (performance.now() > end) throw new Error(`only ${found} bytes are in huge pages`);
  }
}

/**
 * Waits until some memory is in huge pages and the amount has stopped growing for a second: the
 * kernel does not say in advance how much it will join.
 */
export async function untilSettled(pid: number, bytes: number): Promise<void> {
  let last = await untilHuge(pid, bytes, 1);
  for (let same = 0; same < SETTLED_POLLS; await delay(POLL_MS)) {
    const now = hugeBytes(pid, bytes);
    same = now === last ? same + 1 : 0;
    last = now;
  }
}

/** Returns a size in KiB, padded as smaps prints it. */
function kibibytes(bytes: number): string {
  return String(bytes / 1024).padStart(18);
}
