/** Waits for the monitor of a QEMU that starts. */
import { QmpClient, QmpError } from '../../../qmp/index.ts';
import { whenThere } from '../../host/when-there.ts';

/**
 * Connects to the monitor of a QEMU that has just been started. No other connection is made, to see
 * whether the monitor is there: a QEMU whose first client hangs up while it starts can die of that
 * (10.0.2, once in some thousand starts; object_get_class(NULL) in chardev/char-socket.c).
 * @param deadlineMs time until the monitor must be there, milliseconds
 * @throws UmbraError E_LOAD_FAILED after the deadline; QmpError; the signal's reason
 */
export function monitorWhenThere(
  path: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<QmpClient> {
  const attempt = async (): Promise<QmpClient | NodeJS.ErrnoException> => {
    try {
      return await QmpClient.connect(path, { timeoutMs: deadlineMs, signal });
    } catch (error) {
      const absent = error instanceof QmpError && error.code === 'E_QMP_CONNECT';
      if (absent && error.cause instanceof Error) return error.cause;
      throw error;
    }
  };
  return whenThere(path, deadlineMs, signal, attempt, (qmp) => qmp.close());
}
