/** Watches and ends QEMU's outgoing migration. */
import { setTimeout as delay } from 'node:timers/promises';
import type { MigrationStatus, QmpClient } from '../../../qmp/index.ts';
import { UmbraError } from '../../failure/failure.ts';

const RETRY_MS = 2;

const BUSY: ReadonlySet<MigrationStatus> = new Set<MigrationStatus>([
  'setup',
  'active',
  'cancelling',
  'postcopy-active',
  'postcopy-paused',
  'postcopy-recover',
  'colo',
  'pre-switchover',
  'device',
  'wait-unplug',
]);

/** Returns true for the status of a migration that has begun and not ended. */
export function isBusy(status: MigrationStatus | undefined): boolean {
  return status !== undefined && BUSY.has(status);
}

/** Returns true while an outgoing migration is under way. */
export async function isMigrating(qmp: QmpClient): Promise<boolean> {
  const { status } = await qmp.execute('query-migrate');
  return isBusy(status);
}

/**
 * Cancels an outgoing migration, if there is one, and waits until QEMU has ended it.
 * @throws UmbraError E_QMP_TIMEOUT
 */
export async function cancelMigration(qmp: QmpClient, deadlineMs: number): Promise<void> {
  let cancelled = false;
  for (const end = performance.now() + deadlineMs; performance.now() < end; ) {
    const { status } = await qmp.execute('query-migrate');
    if (!isBusy(status)) return;
    if (!cancelled && status !== 'cancelling') {
      await qmp.execute('migrate_cancel');
      cancelled = true;
    }
    await delay(RETRY_MS);
  }
  throw new UmbraError({ code: 'E_QMP_TIMEOUT', message: 'QEMU does not cancel its migration' });
}

/**
 * Waits until QEMU reports a migration whose stream is whole as completed.
 * @throws UmbraError E_MIGRATION_FAILED, E_QMP_TIMEOUT
 */
export async function awaitMigrationEnd(qmp: QmpClient, deadlineMs: number): Promise<void> {
  for (const end = performance.now() + deadlineMs; performance.now() < end; await delay(RETRY_MS)) {
    const { status, 'error-desc': why } = await qmp.execute('query-migrate');
    if (status === 'completed') return;
    if (isBusy(status)) continue;
    const message = `QEMU reports its migration ${status}: ${why ?? 'it does not say why'}`;
    throw new UmbraError({ code: 'E_MIGRATION_FAILED', message });
  }
  throw new UmbraError({ code: 'E_QMP_TIMEOUT', message: 'QEMU does not end its migration' });
}
