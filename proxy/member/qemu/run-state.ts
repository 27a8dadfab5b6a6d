/** Stops a VM, resumes it, and tells QEMU's own stops from others. */
import { setTimeout as delay } from 'node:timers/promises';
import { type QmpClient, QmpError, type RunState } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';

const RETRY_MS = 2;
/** Message of E_RESUMED_EARLY. */
const RESUMED_AT_BARRIER =
  'the VM was resumed while it was stopped at the barrier: the cut is lost';

/**
 * Stops a VM.
 * @param limitMs the longest QEMU may take: it flushes its disks before it answers
 */
export async function stopVm(qmp: QmpClient, limitMs: number): Promise<void> {
  await qmp.execute('stop', undefined, { timeoutMs: limitMs });
}

/**
 * Resumes a stopped VM. Right after a migration, QEMU may refuse `cont` for a moment with
 * "Migration is not finalized yet", so it is repeated until the deadline.
 * @throws QmpError with QEMU's last answer; UmbraError E_VM_NOT_RUNNING
 */
export async function makeRun(qmp: QmpClient, deadlineMs: number): Promise<void> {
  for (const end = performance.now() + deadlineMs; ; ) {
    const { running, status } = await qmp.execute('query-status');
    // A guest that has suspended itself (ACPI S3) stays suspended: Umbra does not wake it.
    if (running || status === 'suspended') return;
    const late = performance.now() > end;
    try {
      await qmp.execute('cont');
    } catch (error) {
      const refused = error instanceof QmpError && error.code === 'E_QMP_COMMAND';
      if (!refused || late) throw error;
      await delay(RETRY_MS);
    }
    if (!late) continue;
    const message = `the VM does not resume: it is ${status}`;
    throw new UmbraError({ code: 'E_VM_NOT_RUNNING', message });
  }
}

/**
 * Resumes a VM that is stopped at the barrier. One that runs was resumed from outside the round.
 * QEMU's event of that may still wait in another socket than the barrier came from: a proxy that
 * was frozen reads its sockets in any order. The monitor's answer comes after the event, so the
 * monitor is asked.
 * @param early message of the error for a VM that runs
 * @throws UmbraError E_RESUMED_EARLY
 */
export async function resumeStanding(
  qmp: QmpClient,
  deadlineMs: number,
  early = RESUMED_AT_BARRIER,
): Promise<void> {
  const { running } = await qmp.execute('query-status');
  if (running) throw new UmbraError({ code: 'E_RESUMED_EARLY', message: early });
  await makeRun(qmp, deadlineMs);
}

/**
 * Returns true for a VM that QEMU itself has stopped, to complete a migration. Any other stop comes
 * from outside.
 */
export function isSwitchover(status: RunState): boolean {
  return status === 'finish-migrate' || status === 'postmigrate';
}
