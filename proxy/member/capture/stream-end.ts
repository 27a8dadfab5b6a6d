/**
 * Finds the cause of a migration stream that ended before it was whole, or could not be compared
 * with its VM. The end of a stream is usually a symptom: QEMU died, libvirt went away before it had
 * handed the stream over, or the migration failed. The monitor knows the cause. Which of the two is
 * heard first is chance, so the monitor is asked:
 *
 *     stream ends ──▶ query-migrate ──┬── failed, cancelled ──▶ E_MIGRATION_FAILED, QEMU's reason
 *                                     ├── no monitor ─────────▶ E_QMP_CLOSED, E_QMP_AWAY
 *                                     └── anything else, or silence: the stream's own error
 *
 * An answer comes after those of all earlier commands, so a refused `migrate` is reported first.
 */
import { type QmpClient, QmpError } from '../../../qmp/index.ts';
import { toFailure, UmbraError } from '../../failure/failure.ts';

/** The longest that the monitor is waited for, milliseconds: the VM may be stopped. */
const ANSWER_LIMIT_MS = 1_000;
const CONSEQUENCES: ReadonlySet<string> = new Set([
  'E_STREAM_TRUNCATED',
  'E_STREAM_LOST',
  'E_VM_MEMORY',
]);
const CAUSES: ReadonlySet<string> = new Set(['E_QMP_CLOSED', 'E_QMP_AWAY']);

/** Finds the error to report to the operator. Never rejects. */
export async function whyStreamEnded(error: unknown, monitor: QmpClient): Promise<unknown> {
  if (!CONSEQUENCES.has(toFailure(error, {}).code)) return error;
  try {
    const options = { timeoutMs: ANSWER_LIMIT_MS };
    const answer = await monitor.execute('query-migrate', undefined, options);
    const { status, 'error-desc': reason } = answer;
    if (status !== 'failed' && status !== 'cancelling' && status !== 'cancelled') return error;
    const message = `QEMU reports its migration ${status}${reason ? `: ${reason}` : ''}`;
    return new UmbraError({ code: 'E_MIGRATION_FAILED', message }, error);
  } catch (cause) {
    return cause instanceof QmpError && CAUSES.has(cause.code) ? cause : error;
  }
}
