/** One unthrottled migration of a running VM by QEMU alone; the VM continues afterwards. */
import type { QmpClient } from '../../qmp/index.ts';

export interface Migration {
  /** Total time by QEMU's own count, milliseconds. */
  readonly totalMs: number;
  readonly bytes: number;
}

export async function migrateInto(monitor: QmpClient, uri: string): Promise<Migration> {
  await monitor.execute('migrate-set-capabilities', {
    capabilities: [{ capability: 'events', state: true }],
  });
  await monitor.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 50 });
  const ended = new Promise<string>((resolve) => {
    const unsubscribe = monitor.onEvent(({ name, data }) => {
      if (name !== 'MIGRATION' || !/completed|failed/.test(String(data.status))) return;
      unsubscribe();
      resolve(String(data.status));
    });
  });
  await monitor.execute('migrate', { uri });
  if ((await ended) !== 'completed') throw new Error(`the migration into ${uri} failed`);
  const { ram, 'total-time': totalMs = Number.NaN } = await monitor.execute('query-migrate');
  while (!(await monitor.execute('query-status')).running) {
    await monitor.execute('cont').catch(() => {}); // "not finalized yet", for a moment
  }
  return { totalMs, bytes: ram?.transferred ?? 0 };
}
