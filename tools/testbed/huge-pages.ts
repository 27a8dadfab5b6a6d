/** How much of a VM's memory is in huge pages, as the kernel tells. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 50;
const SETTLED_POLLS = 20;
const JOIN_LIMIT_MS = 600_000;

/**
 * Bytes in huge pages, of the private memory of that size (proc_pid_smaps(5)).
 * @throws Error if a process has not one such mapping
 */
function hugeBytes(pid: number, bytes: number): number {
  const smaps = readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  const alike = smaps.filter((text) => text.includes(`\nSize: ${kibibytes(bytes)} kB`));
  const found = /^AnonHugePages: +(\d+) kB$/m.exec(alike[0] ?? '')?.[1];
  if (alike.length !== 1 || found === undefined) throw new Error('its memory is not to be found');
  return Number(found) * 1024;
}

/** Waits until at least `wanted` bytes are. @returns how many @throws Error after two minutes */
export async function untilHuge(pid: number, bytes: number, wanted: number): Promise<number> {
  for (const end = performance.now() + JOIN_LIMIT_MS; ; await delay(POLL_MS)) {
    const found = hugeBytes(pid, bytes);
    if (found >= wanted) return found;
    if (performance.now() > end) throw new Error(`only ${found} bytes are in huge pages`);
  }
}

/** Waits until some are and no more become so: how many it will be, nobody says. */
export async function untilSettled(pid: number, bytes: number): Promise<void> {
  let last = await untilHuge(pid, bytes, 1);
  for (let same = 0; same < SETTLED_POLLS; await delay(POLL_MS)) {
    const now = hugeBytes(pid, bytes);
    same = now === last ? same + 1 : 0;
    last = now;
  }
}

/** As smaps pads them. */
function kibibytes(bytes: number): string {
  return String(bytes / 1024).padStart(18);
}
