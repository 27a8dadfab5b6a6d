/** Processor time of Umbra's processes, and of a QEMU without the threads that run its guest. */
import { readdirSync, readFileSync } from 'node:fs';
import type { QmpClient } from '../../qmp/index.ts';
import type { Testbed } from '../testbed/testbed.ts';

/** Returns the threads of a QEMU that run its guest. */
export async function vcpuThreads(monitor: QmpClient): Promise<ReadonlySet<number>> {
  const cpus = await monitor.execute('query-cpus-fast');
  return new Set(cpus.map(({ 'thread-id': thread }) => thread));
}

/**
 * Returns the seconds that a testbed's daemon and proxies, and one of its QEMUs without its vCPUs,
 * have run until now.
 */
export function umbraSeconds(bed: Testbed, qemu: number, vcpus: ReadonlySet<number>): number {
  const ours = [...bed.processes()].filter(([, line]) => {
    return line.includes(' serve ') || line.includes('/member/process.');
  });
  const threads = [...ours.map(([pid]) => pid), qemu].flatMap(threadsOf);
  return threads.filter(([, thread]) => !vcpus.has(thread)).reduce((sum, at) => sum + ran(at), 0);
}

type Thread = readonly [process: number, thread: number];

function threadsOf(process: number): Thread[] {
  return readdirSync(`/proc/${process}/task`).map((thread) => [process, Number(thread)]);
}

/** Reads /proc/PID/task/TID/schedstat: nanoseconds on a processor come first. */
function ran([process, thread]: Thread): number {
  try {
    const [onCpu] = readFileSync(`/proc/${process}/task/${thread}/schedstat`, 'latin1').split(' ');
    return Number(onCpu) / 1e9;
  } catch {
    return 0; // it has ended
  }
}
